import { sgis, testAllocation } from "../support/allocation.ts";

// One that the machine has to box on the way of an instruction that it executes by itself.
testAllocation("an SGI", sgis, 1);
