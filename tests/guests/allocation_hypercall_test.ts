import { ENDLESS, guestOf, PSCI_VERSION, testAllocation } from "../support/allocation.ts";
import { op } from "../support/unit_operations.ts";

testAllocation("a hypercall", () => guestOf([op.hvc(ENDLESS, PSCI_VERSION)]));
