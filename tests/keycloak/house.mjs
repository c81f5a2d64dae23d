// The house of the Keycloak stories: a Keycloak with its realm in memory, the API, Vestibule and Caddy, as in the browser
// stories.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { startApi } from '../browser/api.mjs';
import { ask, freePorts, raise, ROOT, run, startCaddy, startVestibule, until } from '../browser/house.mjs';
import { authorityOf } from '../browser/programs.mjs';
import { AUDIENCE, CLI_ID, REALM, realm, WEB_ID, WEB_SECRET } from './realm.mjs';

/** What a browser says that it is; programs come to another listener. */
export const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36';

/** A Java program of this size starts slowly on a busy machine. */
const PATIENCE = 120_000;

/** Everything, started side by side where nothing waits for something else. */
export function build() {
  return raise('keycloak', async ({ work, app, door, metrics, keep }) => {
    const [programs] = await freePorts(1);
    const provider = await keep(startKeycloak({ work, app }));
    const { issuer } = provider;
    const api = await keep(startApi({ issuer, audience: AUDIENCE, keys: `${issuer}/protocol/openid-connect/certs` }));
    const client = { id: WEB_ID, secret: WEB_SECRET };
    const routes = describeRoutes({ app, programs, upstream: api.url });
    const { log, config } = await keep(startVestibule({ work, door, metrics, issuer, client, routes }));
    await keep(startCaddy({ work, app, door, programs, sites: join(ROOT, 'Caddyfile') }));
    const begin = () => ask(`${app}/login/start`, { headers: { 'user-agent': BROWSER } });
    await until('a login can begin', async () => (await begin()).status === 302, PATIENCE);
    return { provider, api, config, metrics: `http://127.0.0.1:${metrics}/metrics`, log, authority: authorityOf(work) };
  });
}

/** A Keycloak in development mode that keeps nothing; its folder is where the realm to import has to be. */
async function startKeycloak({ work, app }) {
  const home = process.env.KEYCLOAK_HOME ?? join(ROOT, 'target/tools/keycloak');
  await mkdir(join(home, 'data/import'), { recursive: true });
  await writeFile(join(home, `data/import/${REALM}-realm.json`), JSON.stringify(realm(app), null, 2));
  const [port] = await freePorts(1);
  const flags = ['--db=dev-mem', '--cache=local', '--http-host=127.0.0.1', `--http-port=${port}`, '--import-realm'];
  const keycloak = await run('keycloak', join(home, 'bin/kc.sh'), ['start-dev', ...flags], work, {});
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
