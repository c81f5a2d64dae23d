// Programs that are no browsers, each a process of its own as its users start it. They tell the story what happens to
// them in lines of JSON: `open` is what a person would be shown, `status` is how it ended.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Starts `command` with `args`. `authority` is the file of the certificate authority that it trusts. `line()` waits for
 * the next thing that it tells, `over()` for its end, and `stop()` ends it if it has not ended by itself.
 */
export function start(command, args, { authority }) {
  // The first is what Node reads, the second what Go reads.
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: authority, SSL_CERT_FILE: authority };
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const over = once(child, 'close').then(([code, signal]) => code ?? signal);
  let complaints = '';
  child.stderr.on('data', (data) => (complaints += data));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command} ended (${await over}) and told nothing more: ${complaints}`);
    return JSON.parse(value);
  };
  const stop = async () => {
    child.kill('SIGTERM');
    await over;
  };
  return { line, over: () => over, stop };
}

/** Where Caddy keeps the certificate of its own authority, in the folder of a house. */
export function authorityOf(work) {
  return join(work, 'caddy-data/caddy/pki/authorities/local/root.crt');
}
