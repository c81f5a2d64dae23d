// What programs and people meet at one and the same address: a command line client, an agent and a browser, each led to
// where it belongs by the shipped Caddyfile, each served by a published library that knows nothing of Vestibule.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { startApi } from './api.mjs';
import { look } from './chromium.mjs';
import { aLoginCanBegin, ask, raise, ROOT, startCaddy, startVestibule, until } from './house.mjs';
import { freePorts } from './ports.mjs';
import { authorityOf, start } from './programs.mjs';
import { startProvider } from './provider.mjs';
import { CLI_ID } from './provider_programs.mjs';
import { visits } from './visit.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36';
const ELSEWHERE = 'https://elsewhere.example.com';

describe('programs and people at one address', { timeout: 180_000 }, () => {
  const visit = visits(build, {
    viewport: { width: 900, height: 560 },
    witnesses: async ({ metrics }) => ({ 'the metrics of Vestibule': await (await fetch(metrics)).text() }),
  });
  const started = [];

  afterEach(async () => {
    for (const program of started.splice(0)) await program.stop();
  });

  test('DV-1 DV-5 a CLI asks where to log in, follows the device flow, and calls the API', async () => {
    const { app, api, provider } = visit.house;
    const cli = program('cli.mjs', app);
    const { start: told, ...begin } = await cli.line();
    assert.deepEqual(begin, { status: 200, type: 'application/json' });
    const { server_time: time, ...rest } = told;
    const known = {
      device_authorization_endpoint: `${provider.issuer}/device/auth`,
      issuer: provider.issuer,
      client_id: CLI_ID,
    };
    assert.deepEqual(rest, known);
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000, time);

    const { open, code, endpoint } = await cli.line();
    assert.equal(endpoint, told.device_authorization_endpoint, 'what the library finds by itself is the same');
    await approve(open, code, 'cli');
    const before = api.calls.length;
    const { status, body } = await cli.line();
    assert.deepEqual([status, body.sub, body.path], [200, 'ada', '/api/hello?from=the+cli']);
    assert.equal(await cli.over(), 0);
    const [call] = api.calls.slice(before - 1);
    assert.ok(fingerprints(provider).includes(call.token), 'the API saw the token of the CLI');
  });

  test('JV-12 DV-5 a token that is meant for another API is refused, and the way to a right one is told', async () => {
    const { app, api } = visit.house;
    const before = api.calls.length;
    const cli = program('cli.mjs', app, ELSEWHERE);
    await cli.line();
    const { open, code } = await cli.line();
    await approve(open, code, 'cli-elsewhere');
    const { status, challenges } = await cli.line();
    assert.equal(status, 401);
    assert.equal(challenges.length, 1);
    const [{ scheme, parameters }] = challenges;
    const metadata = `${app}/.well-known/oauth-protected-resource`;
    assert.equal(scheme, 'bearer');
    assert.deepEqual([parameters.error, parameters.resource_metadata], ['invalid_token', metadata]);
    assert.deepEqual(api.calls.slice(before), [], 'the API saw it');
    assert.ok((await visit.house.log()).includes(ELSEWHERE), 'the log names the audience that came');
  });

  test('JV-1 JV-21 an agent that knows nothing but the address of the API finds its way in', async () => {
    const { app, provider } = visit.house;
    const agent = program('agent.mjs', `${app}/api/hello?from=an+agent`);
    const refused = await agent.line();
    const metadata = `${app}/.well-known/oauth-protected-resource`;
    assert.equal(refused.status, 401);
    assert.equal(refused.challenge, `Bearer realm="${app}", resource_metadata="${metadata}"`);
    assert.equal(refused.metadata, metadata);

    const { open, resource } = await agent.line();
    assert.ok(open.startsWith(`${provider.issuer}/auth?`), open);
    assert.equal(resource, app, 'the token will be for this API');
    const page = await visit.context.newPage();
    await page.goto(open);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.getByText('You can close this window.').waitFor();
    await page.close();
    const { status, body, asked } = await agent.line();
    assert.deepEqual([status, body.sub, body.path], [200, 'ada', '/api/hello?from=an+agent']);
    assert.equal(asked[0], metadata);
    assert.ok(asked.includes(`${provider.issuer}/reg`), 'nobody had told the provider of it');
    assert.equal(await agent.over(), 0);
  });

  test('DV-6 a browser gets the web login at the same address, and what says it is one does too', async () => {
    const { app, provider } = visit.house;
    const url = `${app}/login/start`;
    const browser = await ask(url, { headers: { 'user-agent': BROWSER, accept: 'text/html' } });
    assert.equal(browser.status, 302);
    assert.ok(browser.headers.location.startsWith(`${provider.issuer}/auth?`), browser.headers.location);
    const front = { 'user-agent': BROWSER, origin: app, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' };
    const script = await ask(url, { method: 'POST', headers: front });
    assert.deepEqual([script.status, Object.keys(JSON.parse(script.body))], [200, ['authorization_request_url']]);
    for (const method of ['GET', 'POST']) {
      const program = await ask(url, { method, headers: { 'user-agent': 'the-cli/1.0' } });
      assert.deepEqual([program.status, JSON.parse(program.body).client_id], [200, CLI_ID], method);
    }

    const page = await visit.open('/');
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Signed in as ada (ada@example.com)').waitFor();
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('"sub": "ada"').waitFor();
  });

  /** Starts a program of this folder, with that of another language in its place when a suite says so. */
  function program(file, ...args) {
    const other = file === 'cli.mjs' && process.env.CLI_BIN;
    const [command, ...first] = other ? [other] : [process.execPath, join(HERE, file)];
    started.push(start(command, [...first, ...args], { authority: visit.house.authority }));
    return started.at(-1);
  }

  /** Ada lets the program in that shows her `code`. */
  async function approve(open, code, picture) {
    const page = await visit.context.newPage();
    await page.goto(open);
    await page.getByText(code).waitFor();
    await look(page, `${picture}-1-confirm`);
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.getByRole('heading', { name: 'The program is signed in' }).waitFor();
    await look(page, `${picture}-2-done`);
    await page.close();
  }
});

/** The fingerprints of all access tokens that the provider issued, as the API takes them. */
function fingerprints({ issued }) {
  const access = [...issued].filter(([, kind]) => kind === 'access token');
  return access.map(([token]) => createHash('sha256').update(token).digest('hex').slice(0, 12));
}

/** A route for browsers and one for programs before the same API. */
function build() {
  return raise('clients', async ({ work, app, door, metrics, keep }) => {
    const [programs] = await freePorts(1);
    const provider = await keep(startProvider({ app, accessTokenSeconds: 600, resources: [app, ELSEWHERE] }));
    const { issuer } = provider;
    const api = await keep(startApi({ issuer, audience: app }));
    const routes = `[routes.web]
mode       = "auth-code"
public_url = "${app}"
upstream   = "${api.url}"

[routes.cli]
mode       = "device"
listen     = "127.0.0.1:${programs}"
public_url = "${app}"
client_id  = "${CLI_ID}"
audiences  = ["${app}"]
upstream   = "${api.url}"
`;
    const { log } = await keep(startVestibule({ name: 'vestibule-clients', work, door, metrics, issuer, routes }));
    await keep(startCaddy({ work, app, door, programs, sites: join(ROOT, 'Caddyfile') }));
    await until('the metadata are there', async () => (await ask(`${app}/.well-known/oauth-protected-resource`)).status === 200);
    await aLoginCanBegin(`${app}/login/start`, BROWSER);
    return { provider, api, metrics: `http://127.0.0.1:${metrics}/metrics`, log, authority: authorityOf(work) };
  });
}
