import { ENDLESS, guestOf, testAllocation, VIRTIO } from "../support/allocation.ts";
import { op } from "../support/unit_operations.ts";

testAllocation("a read of a user-space device", () => guestOf([op.read(VIRTIO, 4, ENDLESS)]));
