// Loopback addresses of our own: all of 127.0.0.0/8 works without configuration, and node1 needs port 80 to itself.

/** The `n`-th (0 to 3) loopback address that belongs to this process alone: process ids have 22 bits, 127/8 has 24. */
export function ownAddress(n) {
  const host = process.pid * 4 + n;
  return [127, (host >> 16) & 255, (host >> 8) & 255, host & 255].join(".");
}
