// Ports for programs that cannot choose one themselves.

import { once } from 'node:events';
import { createServer } from 'node:net';

// None of those that the system chooses (`ip_local_port_range` begins at 32768), so that nobody gets one by chance between
// its choice and its use; and above 10080, the last low one that browsers refuse to open.
const FIRST = 11_000;
const LAST = 30_000;

let next = FIRST + ((process.pid * 50) % (LAST - FIRST));

/** `count` ports of loopback where nobody listens now. None comes twice. */
export async function freePorts(count) {
  const ports = [];
  while (ports.length < count) {
    const port = next;
    next = next === LAST ? FIRST : next + 1;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

async function isFree(port) {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if (error.code === 'EADDRINUSE') return false;
    throw error;
  }
  await once(server.close(), 'close');
  return true;
}
