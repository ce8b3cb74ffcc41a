/** A guest of two workers that resets itself. */
import assert from "node:assert/strict";
import {
  onTeam,
  PSCI,
  TEAM,
  TEAM_BARE,
  TEAM_KVM,
  TeamEnd,
  TeamProgram,
} from "../support/team_guest.ts";

const RESETS = 4;
/** Far more than a boot takes. */
const PART_NS = 1e9, PARTS = 60;

/** CPU 1 writes its word and is busy for ever; CPU 0 writes its own, too, and resets when it has seen CPU 1's. */
const resetting = (): TeamProgram =>
  new TeamProgram().both(
    (a) => {
      a.mov(10, TEAM.data).mov(11, 1).str(11, 10);
      a.label("await").ldr(12, 10, 8).cbz(12, "await");
      a.mov(0, PSCI.SYSTEM_RESET).hvc().label("stay").b("stay");
    },
    (a) => a.mov(10, TEAM.data).mov(11, 1).str(11, 10, 8).label("busy").b("busy"),
  );

for (const run of [TEAM_BARE, TEAM_KVM]) {
  onTeam("a reset starts both CPUs over, with empty RAM", run, resetting, (guest) => {
    const { machine } = guest;
    for (let boot = 0; boot <= RESETS; boot++) {
      let part = 0;
      while (machine.run(Infinity, machine.nowNs + PART_NS) !== "power") {
        assert.ok(part++ < PARTS, `boot ${boot} does not come to its end`);
      }
      assert.equal(guest.takeEvent(), "reset");
      const end = new TeamEnd(guest);
      assert.deepEqual([end.get(TEAM.data), end.get(TEAM.data + 8)], [1n, 1n]);
      guest.reset();
      assert.deepEqual([end.get(TEAM.data), end.get(TEAM.data + 8)], [0n, 0n]);
    }
  });
}
