import { sgis, testAllocation } from "../support/allocation.ts";

testAllocation("an SGI", sgis);
