import assert from "node:assert/strict";
import {
  checksum,
  ECHO_PEER,
  GUEST_IP,
  PEER_IP,
  PEER_MAC,
} from "../../../src/vmm/virtio/echo_peer.ts";
import { GUEST_MAC, LOOPBACK, MAX_FRAME, VirtioNet } from "../../../src/vmm/virtio/net.ts";
import { VIRTIO_MMIO as REG } from "../../../src/vmm/virtio/mmio_transport.ts";
import { bytesAt } from "../device_rig.ts";
import { Driver } from "./driver.ts";

const HEADER = 12;

Deno.test("a frame that is sent to the loopback comes back whole, behind a header", () => {
  const driver = new Driver(() => new VirtioNet(LOOPBACK)).start();
  assert.deepEqual(
    Array.from({ length: 6 }, (_, i) => driver.transport.read(REG.Config + i, 1)),
    [...GUEST_MAC],
  );
  assert.equal(driver.transport.read(REG.Config + 6, 2), 1, "the link is up");
  const frame = Uint8Array.from({ length: 60 }, (_, i) => i);
  const [piece] = driver.add(0, { in: [2000] });
  driver.request(1, { out: [new Uint8Array(HEADER), frame] });
  assert.deepEqual(driver.usedElement(0, 0), [0, HEADER + 60]);
  const bytes = bytesAt(driver.rig.ram, piece?.pa ?? 0, HEADER + 60);
  assert.deepEqual([...bytes.subarray(0, HEADER)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  assert.deepEqual(bytes.subarray(HEADER), frame);
});

Deno.test("frames without a buffer, too long for it, or longer than any are lost", () => {
  const driver = new Driver(() => new VirtioNet(LOOPBACK)).start();
  const send = (length: number) =>
    driver.request(1, { out: [new Uint8Array(HEADER), new Uint8Array(length)] });
  send(60);
  assert.equal(driver.used(0), 0);
  driver.add(0, { in: [64] });
  send(MAX_FRAME + 1);
  assert.equal(driver.used(0), 0);
  send(60);
  assert.deepEqual(driver.usedElement(0, 0), [0, 0], "given back empty");
});

// The peer

const be16 = (n: number): number[] => [n >> 8, n & 255];
const MAC = [...GUEST_MAC];

function ethernet(to: readonly number[], type: number, payload: readonly number[]): Uint8Array {
  return Uint8Array.of(...to, ...MAC, ...be16(type), ...payload);
}

function ip(protocol: number, to: readonly number[], payload: readonly number[]): number[] {
  const from = to[0] === 255 ? [0, 0, 0, 0] : [...GUEST_IP];
  const head = [0x45, 0, ...be16(20 + payload.length), 1, 2, 0, 0, 64, protocol, 0, 0];
  const whole = [...head, ...from, ...to];
  whole.splice(10, 2, ...be16(checksum(Uint8Array.from(whole))));
  return [...whole, ...payload];
}

function ping(payload: readonly number[]): number[] {
  const message = [8, 0, 0, 0, 0, 7, 0, 1, ...payload];
  message.splice(2, 2, ...be16(checksum(Uint8Array.from(message))));
  return message;
}

const udp = (from: number, to: number, payload: readonly number[]): number[] => [
  ...be16(from),
  ...be16(to),
  ...be16(8 + payload.length),
  0,
  0,
  ...payload,
];

/** The one frame that comes back: its type and its payload. */
function answer(frame: Uint8Array): Uint8Array {
  const frames = ECHO_PEER.send(frame);
  assert.equal(frames.length, 1);
  const [back] = frames as [Uint8Array];
  assert.deepEqual([...back.subarray(0, 12)], [...MAC, ...PEER_MAC]);
  return back.subarray(12);
}

const ARP = [0, 1, 8, 0, 6, 4, 0, 1, ...MAC, ...GUEST_IP, 0, 0, 0, 0, 0, 0];
const BROADCAST = [255, 255, 255, 255, 255, 255];

Deno.test("the peer answers ARP for its address only", () => {
  const back = answer(ethernet(BROADCAST, 0x806, [...ARP, ...PEER_IP]));
  assert.deepEqual([...back], [
    ...[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
    ...PEER_MAC,
    ...PEER_IP,
    ...MAC,
    ...GUEST_IP,
  ]);
  assert.deepEqual(ECHO_PEER.send(ethernet(BROADCAST, 0x806, [...ARP, 10, 0, 2, 9])), []);
});

Deno.test("the peer answers a ping with the same bytes and right checksums", () => {
  const data = Array.from({ length: 57 }, (_, i) => 3 * i);
  const back = answer(ethernet([...PEER_MAC], 0x800, ip(1, [...PEER_IP], ping(data))));
  assert.equal(checksum(back.subarray(2, 22)), 0);
  assert.equal(checksum(back.subarray(22)), 0);
  assert.deepEqual([...back.subarray(14, 22)], [...PEER_IP, ...GUEST_IP]);
  assert.deepEqual([...back.subarray(22, 24), ...back.subarray(26)], [0, 0, 0, 7, 0, 1, ...data]);
});

Deno.test("the peer sends UDP datagrams back with ports exchanged and a right checksum", () => {
  const frame = ethernet([...PEER_MAC], 0x800, ip(17, [...PEER_IP], udp(4000, 7, [1, 2, 3])));
  const back = answer(frame);
  const datagram = back.subarray(22);
  assert.deepEqual([...datagram.subarray(0, 6)], [...be16(7), ...be16(4000), 0, 11]);
  assert.deepEqual([...datagram.subarray(8)], [1, 2, 3]);
  const pseudo = Uint8Array.of(...PEER_IP, ...GUEST_IP, 0, 17, 0, 11);
  assert.equal(checksum(pseudo, datagram), 0);
});

Deno.test("DHCP: an offer and an acknowledgement with address, mask, router and lease", () => {
  for (const [type, expected] of [[1, 2], [3, 5]] as const) {
    const message = new Array<number>(236).fill(0);
    message.splice(0, 8, 1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef);
    message.splice(28, 6, ...MAC);
    const options = [0x63, 0x82, 0x53, 0x63, 55, 1, 3, 0, 53, 1, type, 255];
    const request = udp(68, 67, [...message, ...options]);
    const back = answer(ethernet(BROADCAST, 0x800, ip(17, [255, 255, 255, 255], request)));
    const reply = back.subarray(30);
    assert.deepEqual([...reply.subarray(0, 8)], [2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
    assert.deepEqual([...reply.subarray(16, 20)], [...GUEST_IP]);
    assert.deepEqual([...reply.subarray(240, 249)], [53, 1, expected, 1, 4, 255, 255, 255, 0]);
    assert.deepEqual([...reply.subarray(249, 255)], [3, 4, ...PEER_IP]);
  }
});

Deno.test("the peer is silent about everything else", () => {
  const good = ip(1, [...PEER_IP], ping([1]));
  const corrupt = good.with(10, (good[10] as number) ^ 1);
  const fragment = ip(1, [...PEER_IP], ping([1]));
  fragment[6] = 0x20;
  const frames = [
    new Uint8Array(0),
    ethernet([2, 2, 2, 2, 2, 2], 0x800, good),
    ethernet([...PEER_MAC], 0x86dd, good),
    ethernet([...PEER_MAC], 0x800, corrupt),
    ethernet([...PEER_MAC], 0x800, fragment),
    ethernet([...PEER_MAC], 0x800, good.slice(0, 19)),
    ethernet([...PEER_MAC], 0x800, ip(6, [...PEER_IP], [0, 80, 0, 80])),
    ethernet([...PEER_MAC], 0x800, ip(17, [...PEER_IP], [0, 1, 0, 2, 0, 99, 0, 0])),
    ethernet([...PEER_MAC], 0x800, ip(1, [10, 0, 2, 3], ping([1]))),
    ethernet(BROADCAST, 0x800, ip(17, [255, 255, 255, 255], udp(5, 6, [1]))),
    ethernet(BROADCAST, 0x800, ip(17, [255, 255, 255, 255], udp(68, 67, [1, 2, 3]))),
  ];
  for (const frame of frames) assert.deepEqual(ECHO_PEER.send(frame), []);
});
