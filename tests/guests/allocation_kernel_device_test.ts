import { ENDLESS, GICD_TYPER, guestOf, testAllocation } from "../support/allocation.ts";
import { op } from "../support/unit_operations.ts";

testAllocation("a read of an in-kernel device", () => guestOf([op.read(GICD_TYPER, 4, ENDLESS)]));
