// Builds the whole house of the browser stories: provider, API, Vestibule and Caddy, each a real one on loopback, and
// takes it down again by the ids of the processes that it started.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePorts } from './ports.mjs';
import { CLIENT_ID, CLIENT_SECRET } from './provider.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(HERE, '../..');

/** Longest wait for any one thing to be up or down. */
const PATIENCE = 20_000;

/** The client of the certified provider. */
const OWN = { id: CLIENT_ID, secret: CLIENT_SECRET };

/**
 * Raises the house that `build` describes, in a folder of its own. `build` is given that folder as `work`, the public
 * URL `app`, free ports as `door` (of Vestibule) and `metrics`, and `keep`, by which each part that was started is
 * stopped again, the last first. Returns what `build` returned, `app`, and `down`.
 */
export async function raise(name, build) {
  const work = await mkdtemp(join(tmpdir(), `vestibule-${name}-`));
  const undo = [() => rm(work, { recursive: true, force: true })];
  const down = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  const keep = async (starting) => {
    const part = await starting;
    undo.push(part.stop);
    return part;
  };
  try {
    const [https, door, metrics] = await freePorts(3);
    const app = `https://localhost:${https}`;
    return { ...(await build({ work, app, door, metrics, keep })), app, down };
  } catch (error) {
    await down();
    throw error;
  }
}

/** Starts Vestibule for the provider at `issuer`, as `client` there, with these `routes`; `name` is that of its log. */
export async function startVestibule({ name = 'vestibule', work, door, metrics, issuer, client = OWN, routes }) {
  const secret = join(work, 'client.secret');
  const config = join(work, 'vestibule.toml');
  await writeFile(secret, client.secret, { mode: 0o600 });
  await writeFile(
    config,
    `[server]
listen         = "127.0.0.1:${door}"
metrics_listen = "127.0.0.1:${metrics}"

[providers.certified]
issuer        = "${issuer}"
client_id     = "${client.id}"
client_secret = { file = "${secret}" }

${routes}`,
  );
  return { config, ...(await run(name, vestibule(), ['run', '--config', config], work, {})) };
}

/** The program under test. */
export function vestibule() {
  return process.env.VESTIBULE_BIN ?? join(ROOT, 'target/debug/vestibule');
}

/** Waits until a login can begin at `url`, for who says to be `agent`. */
export function aLoginCanBegin(url, agent) {
  return until('a login can begin', async () => (await ask(url, { headers: agent ? { 'user-agent': agent } : {} })).status === 302);
}

/**
 * Starts the Caddy under test before Vestibule's listener at the port `door`, with the sites of the Caddyfile at `sites`.
 * Around them stands only what keeps a test off the well-known ports and trust stores, and the name for Java programs,
 * which say none over TLS when it has no dot. Whoever is no browser comes to the
 * listener at the port `programs`; a house without routes for programs has only the one door.
 */
export async function startCaddy({ work, app, door, programs = door, sites }) {
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
	default_sni localhost
}
import ${sites}
`,
  );
  const binary = process.env.CADDY_BIN ?? join(ROOT, 'target/tools/caddy');
  return run('caddy', binary, ['run', '--adapter', 'caddyfile', '--config', config], work, {
    SITE: app,
    SPA_ROOT: join(HERE, 'front'),
    VESTIBULE: `127.0.0.1:${door}`,
    VESTIBULE_CLI: `127.0.0.1:${programs}`,
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
export async function until(what, condition, patience = PATIENCE) {
  const end = Date.now() + patience;
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
  throw new Error(`waited ${patience / 1000} s in vain until ${what}: ${last}`);
}
