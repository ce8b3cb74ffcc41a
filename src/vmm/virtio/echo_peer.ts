/**
 * A peer on the guest's network that answers, at 10.0.2.2 like the gateway of QEMU's user-mode network:
 * ARP, ICMP echo, UDP echo on every port but DHCP's, and DHCP, which gives the guest 10.0.2.15. It has
 * no state: what comes back depends on the frame alone.
 */
import type { Network } from "./net.ts";

/** The peer's addresses. */
export const PEER_MAC: Uint8Array = Uint8Array.of(0x52, 0x55, 0x0a, 0x00, 0x02, 0x02);
export const PEER_IP: Uint8Array = Uint8Array.of(10, 0, 2, 2);
/** The address that DHCP gives out. */
export const GUEST_IP: Uint8Array = Uint8Array.of(10, 0, 2, 15);
const NETMASK = Uint8Array.of(255, 255, 255, 0);
const BROADCAST_IP = Uint8Array.of(255, 255, 255, 255);

const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806 } as const;
const PROTOCOL = { ICMP: 1, UDP: 17 } as const;
const ETHERNET = 14;
const IP_HEADER = 20;
const UDP_HEADER = 8;
const DHCP_SERVER_PORT = 67;
const LEASE_SECONDS = 86_400;

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Pieces one after the other. */
function join(...pieces: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}
const be16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];

/** The Internet checksum (RFC 1071): 0 over what includes a right one. */
export function checksum(...pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) {
    piece.forEach((byte, i) => sum += i % 2 === 0 ? byte << 8 : byte);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}

function ethernet(to: Uint8Array, type: number, payload: Uint8Array): Uint8Array {
  return join(to, PEER_MAC, be16(type), payload);
}

/** An IPv4 packet from the peer. */
function ipv4(to: Uint8Array, protocol: number, payload: Uint8Array): Uint8Array {
  const length = be16(IP_HEADER + payload.length);
  const header = join([0x45, 0], length, [0, 0, 0x40, 0, 64, protocol, 0, 0], PEER_IP, to);
  header.set(be16(checksum(header)), 10);
  return join(header, payload);
}

/** A UDP datagram from the peer, with its checksum. */
function udp(to: Uint8Array, from: number, port: number, payload: Uint8Array): Uint8Array {
  const length = UDP_HEADER + payload.length;
  const datagram = join(be16(from), be16(port), be16(length), [0, 0], payload);
  const pseudo = join(PEER_IP, to, [0, PROTOCOL.UDP], be16(length));
  const sum = checksum(pseudo, datagram);
  datagram.set(be16(sum === 0 ? 0xffff : sum), 6);
  return datagram;
}

/** The answer to a request for the peer's hardware address. */
function answerArp(packet: Uint8Array): Uint8Array | undefined {
  const request = packet.length >= 28 && viewOf(packet).getUint16(6) === 1;
  if (!request || !same(packet.subarray(24, 28), PEER_IP)) return undefined;
  const sender = packet.subarray(8, 18);
  return ethernet(
    packet.subarray(8, 14),
    ETHERTYPE.ARP,
    join([0, 1, 8, 0, 6, 4, 0, 2], PEER_MAC, PEER_IP, sender),
  );
}

/** An IPv4 packet taken apart. */
interface Packet {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly payload: Uint8Array;
}

/** Undefined for what is no whole, unfragmented IPv4 packet with a right checksum. */
function parseIpv4(bytes: Uint8Array): Packet | undefined {
  if (bytes.length < IP_HEADER || (bytes[0] ?? 0) >> 4 !== 4) return undefined;
  const header = 4 * ((bytes[0] ?? 0) & 0xf);
  const length = viewOf(bytes).getUint16(2);
  const fragment = viewOf(bytes).getUint16(6) & 0x3fff;
  if (header < IP_HEADER || length < header || length > bytes.length || fragment !== 0) {
    return undefined;
  }
  if (checksum(bytes.subarray(0, header)) !== 0) return undefined;
  return {
    source: bytes.slice(12, 16),
    destination: bytes.slice(16, 20),
    protocol: bytes[9] ?? 0,
    payload: bytes.subarray(header, length),
  };
}

function answerIcmp(payload: Uint8Array): Uint8Array | undefined {
  if (payload.length < 8 || payload[0] !== 8 || payload[1] !== 0 || checksum(payload) !== 0) {
    return undefined;
  }
  const reply = payload.slice();
  reply.set([0, 0, 0, 0]);
  reply.set(be16(checksum(reply)), 2);
  return reply;
}

// DHCP (RFC 2131)

const BOOTP = { OPTIONS: 240, CLIENT_MAC: 28, XID: 4 } as const;
const COOKIE = [0x63, 0x82, 0x53, 0x63] as const;
const OPTION = { TYPE: 53, END: 255, PAD: 0 } as const;
const DHCP = { DISCOVER: 1, OFFER: 2, REQUEST: 3, ACK: 5 } as const;

/** The message type option; 0 when there is none. */
function dhcpType(message: Uint8Array): number {
  for (let at = BOOTP.OPTIONS; at + 2 < message.length;) {
    const code = message[at];
    if (code === OPTION.END) return 0;
    if (code === OPTION.TYPE) return message[at + 2] ?? 0;
    at += code === OPTION.PAD ? 1 : 2 + (message[at + 1] ?? 0);
  }
  return 0;
}

function answerDhcp(message: Uint8Array): Uint8Array | undefined {
  const type = dhcpType(message);
  if (message[0] !== 1 || (type !== DHCP.DISCOVER && type !== DHCP.REQUEST)) return undefined;
  const reply = new Uint8Array(BOOTP.OPTIONS);
  reply.set([2, 1, 6, 0]);
  reply.set(message.subarray(BOOTP.XID, BOOTP.XID + 4), BOOTP.XID);
  reply.set(GUEST_IP, 16);
  reply.set(PEER_IP, 20);
  reply.set(message.subarray(BOOTP.CLIENT_MAC, BOOTP.CLIENT_MAC + 16), BOOTP.CLIENT_MAC);
  reply.set(COOKIE, BOOTP.OPTIONS - 4);
  const options = join(
    [OPTION.TYPE, 1, type === DHCP.DISCOVER ? DHCP.OFFER : DHCP.ACK],
    [1, 4],
    NETMASK,
    [3, 4],
    PEER_IP,
    [54, 4],
    PEER_IP,
    [51, 4],
    be32(LEASE_SECONDS),
    [OPTION.END],
  );
  return join(reply, options);
}

function answerUdp({ source, destination, payload }: Packet): Uint8Array | undefined {
  if (payload.length < UDP_HEADER) return undefined;
  const view = viewOf(payload);
  const [from, port, length] = [view.getUint16(0), view.getUint16(2), view.getUint16(4)];
  if (length < UDP_HEADER || length > payload.length) return undefined;
  const content = payload.subarray(UDP_HEADER, length);
  if (port !== DHCP_SERVER_PORT) {
    if (!same(destination, PEER_IP)) return undefined;
    return ipv4(source, PROTOCOL.UDP, udp(source, port, from, content));
  }
  const reply = answerDhcp(content);
  if (reply === undefined) return undefined;
  return ipv4(BROADCAST_IP, PROTOCOL.UDP, udp(BROADCAST_IP, port, from, reply));
}

function answerIp(bytes: Uint8Array): Uint8Array | undefined {
  const packet = parseIpv4(bytes);
  if (packet === undefined) return undefined;
  const { source, destination, protocol, payload } = packet;
  const toPeer = same(destination, PEER_IP);
  if (protocol === PROTOCOL.UDP && (toPeer || same(destination, BROADCAST_IP))) {
    return answerUdp(packet);
  }
  if (protocol !== PROTOCOL.ICMP || !toPeer) return undefined;
  const reply = answerIcmp(payload);
  return reply === undefined ? undefined : ipv4(source, PROTOCOL.ICMP, reply);
}

/** The peer as what the guest's card is plugged into. */
export const ECHO_PEER: Network = {
  send(frame) {
    const to = frame.subarray(0, 6);
    const mine = same(to, PEER_MAC) || to.every((byte) => byte === 0xff);
    if (frame.length < ETHERNET || !mine) return [];
    const type = viewOf(frame).getUint16(12);
    const payload = frame.subarray(ETHERNET);
    if (type === ETHERTYPE.ARP) {
      const reply = answerArp(payload);
      return reply === undefined ? [] : [reply];
    }
    const reply = type === ETHERTYPE.IPV4 ? answerIp(payload) : undefined;
    return reply === undefined ? [] : [ethernet(frame.slice(6, 12), ETHERTYPE.IPV4, reply)];
  },
};
