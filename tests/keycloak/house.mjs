// The house of the Keycloak stories: a Keycloak with its realm in memory, the API, Vestibule and Caddy, as in the browser
// stories.

import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { startApi } from '../browser/api.mjs';
import { ask, raise, ROOT, run, startCaddy, startVestibule, until, vestibule } from '../browser/house.mjs';
import { freePorts } from '../browser/ports.mjs';
import { authorityOf } from '../browser/programs.mjs';
import { AUDIENCE, CLI_ID, REALM, realm, WEB_ID, WEB_SECRET } from './realm.mjs';

/** What a browser says that it is; programs come to another listener. */
export const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36';

/** A Java program of this size starts slowly on a busy machine. */
const PATIENCE = 120_000;

/** Debian's package `redis-tools` holds the server under this name. */
const REDIS = process.env.REDIS_BIN ?? '/usr/bin/redis-check-rdb';

/** Who may end other people's sessions at Keycloak. */
export const ADMIN = { name: 'admin', password: 'tr0ub4dor' };

/** Everything, started side by side where nothing waits for something else. */
export function build() {
  return raise('keycloak', async ({ work, app, door, metrics, keep }) => {
    const [programs] = await freePorts(1);
    // Keycloak has to trust the authority of Caddy when it tells of logouts.
    await keep(startCaddy({ work, app, door, programs, sites: join(ROOT, 'Caddyfile') }));
    await until('Caddy has its authority', () => existsSync(authorityOf(work)), PATIENCE);
    const provider = await keep(startKeycloak({ work, app }));
    const { issuer } = provider;
    const api = await keep(startApi({ issuer, audience: AUDIENCE, keys: `${issuer}/protocol/openid-connect/certs` }));
    const client = { id: WEB_ID, secret: WEB_SECRET };
    const redis = existsSync(REDIS) ? await keep(startRedis(work)) : undefined;
    const routes = (redis?.sessions ?? '') + describeRoutes({ app, programs, upstream: api.url });
    const { log, config } = await keep(startVestibule({ work, door, metrics, issuer, client, routes }));
    const doors = [door, ...(redis ? [await startOther({ config, ports: [door, metrics, programs], work, keep })] : [])];
    const begin = () => ask(`${app}/login/start`, { headers: { 'user-agent': BROWSER } });
    await until('a login can begin', async () => (await begin()).status === 302, PATIENCE);
    return { provider, api, config, doors, metrics: `http://127.0.0.1:${metrics}/metrics`, log, authority: authorityOf(work) };
  });
}

/** A Keycloak in development mode that keeps nothing; its folder is where the realm to import has to be. */
async function startKeycloak({ work, app }) {
  const home = process.env.KEYCLOAK_HOME ?? join(ROOT, 'target/tools/keycloak');
  await mkdir(join(home, 'data/import'), { recursive: true });
  await writeFile(join(home, `data/import/${REALM}-realm.json`), JSON.stringify(realm(app), null, 2));
  const [port] = await freePorts(1);
  const trust = `--truststore-paths=${authorityOf(work)}`;
  const flags = [trust, '--db=dev-mem', '--cache=local', '--http-host=127.0.0.1', `--http-port=${port}`, '--import-realm'];
  const keycloak = await run('keycloak', join(home, 'bin/kc.sh'), ['start-dev', ...flags], work, {
    KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN.name,
    KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
  });
  const issuer = `http://127.0.0.1:${port}/realms/${REALM}`;
  const up = async () => (await fetch(`${issuer}/.well-known/openid-configuration`)).ok;
  try {
    await until('Keycloak is up', up, PATIENCE);
  } catch (error) {
    await keycloak.stop();
    throw new Error(`${error.message}\n${await keycloak.log()}`);
  }
  const endSession = `${issuer}/protocol/openid-connect/logout`;
  // Keycloak's tokens are JWTs, which are found without being known.
  return { ...keycloak, issuer, endSession, issued: new Map([[WEB_SECRET, 'client secret']]) };
}

/** A Redis, and what processes that share it have in common. */
async function startRedis(work) {
  const [port] = await freePorts(1);
  const key = join(work, 'shared.key');
  await writeFile(key, 'a key that both processes have, of more than 32 bytes', { mode: 0o600 });
  const serve = `exec -a redis-server ${REDIS} --port ${port} --bind 127.0.0.1 --save '' --dir ${work}`;
  const redis = await run('redis', '/bin/bash', ['-c', serve], work, {});
  const sessions = `[sessions]
store = { redis = "redis://127.0.0.1:${port}/0" }
keys  = [{ file = "${key}" }]

`;
  return { ...redis, sessions };
}

/** A second Vestibule with the same configuration at ports of its own, which Keycloak does not know; answers its door. */
async function startOther({ config, ports, work, keep }) {
  const others = await freePorts(ports.length);
  const move = (text, port, at) => text.replaceAll(`127.0.0.1:${port}"`, `127.0.0.1:${others[at]}"`);
  const file = join(work, 'other.toml');
  await writeFile(file, ports.reduce(move, await readFile(config, 'utf8')));
  await keep(run('vestibule-2', vestibule(), ['run', '--config', file], work, {}));
  const [door, metrics] = others;
  await until('the second process serves', async () => (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok, PATIENCE);
  return door;
}

/** As in `config/one-site.toml`; what a realm says about its people's roles stands in access tokens only. */
function describeRoutes({ app, programs, upstream }) {
  return `[routes.web]
mode          = "auth-code"
public_url    = "${app}"
upstream      = "${upstream}"
groups_claim  = "realm_access.roles"
claims_source = "access_token"

[routes.web.paths]
"/api/"       = {}
"/api/staff/" = { allowed_groups = ["staff"] }

[routes.cli]
mode         = "device"
listen       = "127.0.0.1:${programs}"
public_url   = "${app}"
client_id    = "${CLI_ID}"
audiences    = ["${AUDIENCE}"]
upstream     = "${upstream}"
groups_claim = "realm_access.roles"

[routes.cli.paths]
"/api/"       = {}
"/api/staff/" = { allowed_groups = ["staff"] }
`;
}
