// Builds the whole house of the browser stories: provider, API, Vestibule and Caddy, each a real one on loopback, and
// takes it down again by the ids of the processes that it started.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { startApi } from './api.mjs';
import { CLIENT_ID, CLIENT_SECRET, startProvider } from './provider.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(HERE, '../..');

/** How long an access token lives; short, so that a story can wait for its end. */
const ACCESS_TOKEN_SECONDS = 4;

/** Longest wait for any one thing to be up or down. */
const PATIENCE = 20_000;

/** Starts everything and resolves once a login can begin. */
export async function build() {
  const work = await mkdtemp(join(tmpdir(), 'vestibule-story-'));
  const [https, door, metrics] = await freePorts(3);
  const app = `https://localhost:${https}`;
  const undo = [() => rm(work, { recursive: true, force: true })];
  const down = async () => {
    for (const step of undo.reverse()) await step();
  };
  try {
    const provider = await startProvider({ app, accessTokenSeconds: ACCESS_TOKEN_SECONDS });
    undo.push(provider.close);
    const api = await startApi({ issuer: provider.issuer });
    undo.push(api.close);
    const vestibule = await startVestibule({ work, app, door, metrics, issuer: provider.issuer, upstream: api.url });
    undo.push(vestibule.stop);
    const caddy = await startCaddy({ work, app, door, sites: join(ROOT, 'Caddyfile') });
    undo.push(caddy.stop);
    await until('a login can begin', async () => (await ask(`${app}/login/start`)).status === 302);
    return { app, provider, api, metrics: `http://127.0.0.1:${metrics}`, log: vestibule.log, down };
  } catch (error) {
    await down();
    throw error;
  }
}

async function startVestibule({ work, app, door, metrics, issuer, upstream }) {
  const secret = join(work, 'client.secret');
  const config = join(work, 'vestibule.toml');
  await writeFile(secret, CLIENT_SECRET, { mode: 0o600 });
  await writeFile(
    config,
    `[server]
listen         = "127.0.0.1:${door}"
metrics_listen = "127.0.0.1:${metrics}"

[providers.certified]
issuer        = "${issuer}"
client_id     = "${CLIENT_ID}"
client_secret = { file = "${secret}" }

[routes.web]
mode       = "auth-code"
public_url = "${app}"
upstream   = "${upstream}"
`,
  );
  const binary = process.env.VESTIBULE_BIN ?? join(ROOT, 'target/debug/vestibule');
  return run('vestibule', binary, ['run', '--config', config], work, {});
}

/**
 * Starts the Caddy under test before Vestibule's listener at the port `door`, with the sites of the Caddyfile at `sites`.
 * Around them stands only what keeps a test off the well-known ports and trust stores.
 */
export async function startCaddy({ work, app, door, sites }) {
  const [http] = await freePorts(1);
  const config = join(work, 'Caddyfile');
  await writeFile(
    config,
    `{
	admin off
	http_port ${http}
	https_port ${new URL(app).port}
	default_bind 127.0.0.1
	skip_install_trust
}
import ${sites}
`,
  );
  const binary = process.env.CADDY_BIN ?? join(ROOT, 'target/tools/caddy');
  return run('caddy', binary, ['run', '--adapter', 'caddyfile', '--config', config], work, {
    SITE: app,
    SPA_ROOT: join(HERE, 'front'),
    VESTIBULE: `127.0.0.1:${door}`,
    XDG_DATA_HOME: join(work, 'caddy-data'),
    XDG_CONFIG_HOME: join(work, 'caddy-config'),
  });
}

/** Starts one process whose output goes to a file; `stop` ends it and only it. */
export async function run(name, binary, args, work, environment) {
  if (!existsSync(binary)) throw new Error(`${name}: there is no ${binary}`);
  const logs = process.env.SCREENSHOTS ?? work;
  await mkdir(logs, { recursive: true });
  const file = join(logs, `${name}.log`);
  const out = openSync(file, 'w', 0o600);
  const child = spawn(binary, args, { cwd: work, env: { ...process.env, ...environment }, stdio: ['ignore', out, out] });
  const gone = once(child, 'exit');
  child.on('error', () => {});
  return {
    log: () => readFile(file, 'utf8'),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const hard = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
      await gone;
      clearTimeout(hard);
    },
  };
}

/** One request past the browser; Caddy's certificate is its own, so it is not judged here. */
export function ask(url, { method = 'GET', headers = {} } = {}) {
  return new Promise((done, fail) => {
    const sent = request(url, { method, headers, rejectUnauthorized: false, timeout: 5_000 }, async (answer) => {
      const chunks = [];
      for await (const chunk of answer) chunks.push(chunk);
      done({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks).toString() });
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer from ${url}`)));
    sent.on('error', fail);
    sent.end();
  });
}

/** Asks `condition` again and again until it holds; a failure to ask counts as "not yet". */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE;
  let last;
  while (Date.now() < end) {
    try {
      if (await condition()) return;
      last = 'it does not hold';
    } catch (error) {
      last = error.message;
    }
    await new Promise((next) => setTimeout(next, 50));
  }
  throw new Error(`waited ${PATIENCE / 1000} s in vain until ${what}: ${last}`);
}

/** Ports that are free now; all are held until the last is known, so that they differ. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
