// The legacy app of the stories: Radicale, a calendar server with a web page, which takes whoever the header
// X-Remote-User names for logged in. Every byte that reaches it is kept, since what an app gets to see is the point.

import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';

import { ROOT, run, until } from './house.mjs';
import { freePorts } from './ports.mjs';

/**
 * Starts Radicale with its data in the folder `work`.
 *
 * Returns `url`, where Vestibule finds it, `direct`, the same app for those who stand behind everything, `heads`, the
 * head of every request that came over `url`, `log` and `stop`.
 */
export async function startRadicale({ work }) {
  const [port] = await freePorts(1);
  const config = join(work, 'radicale.conf');
  // Its page asks who is logged in without cookies unless it is told that the browser does the login.
  await writeFile(
    config,
    `[server]
hosts = 127.0.0.1:${port}
[auth]
type = http_x_remote_user
[storage]
filesystem_folder = ${join(work, 'collections')}
[web]
prefer_browser_login = True
`,
  );
  const environment = { PYTHONPATH: process.env.LEGACY_APP ?? join(ROOT, 'target/tools/legacy') };
  const app = await run('radicale', '/usr/bin/env', ['python3', '-m', 'radicale', '--config', config], work, environment);
  const direct = `http://127.0.0.1:${port}`;
  const tap = await startTap(port);
  await until('Radicale answers', async () => (await fetch(`${direct}/.web/`)).ok);
  return {
    direct,
    heads: tap.heads,
    log: app.log,
    stop: async () => {
      await tap.close();
      await app.stop();
    },
    url: tap.url,
  };
}

/** Hands every connection on to `port`, byte for byte. Radicale answers one request on each, so that is one head. */
async function startTap(port) {
  const said = [];
  const open = new Set();
  const server = createServer((client) => {
    const app = connect(port, '127.0.0.1');
    const record = [];
    said.push(record);
    client.on('data', (bytes) => record.push(bytes));
    for (const [from, to] of [[client, app], [app, client]]) {
      open.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => open.delete(from));
      from.pipe(to);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    heads: () => {
      const texts = said.map((record) => Buffer.concat(record).toString('latin1'));
      return texts.filter(Boolean).map((text) => text.split('\r\n\r\n', 1)[0]);
    },
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
