// What people and programs do before a real Keycloak: log in, call, renew, be kept out, log out.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';

import { look } from '../browser/chromium.mjs';
import { ask, ROOT, vestibule } from '../browser/house.mjs';
import { start } from '../browser/programs.mjs';
import { visits } from '../browser/visit.mjs';
import { BROWSER, build } from './house.mjs';
import { ACCESS_TOKEN_SECONDS, AUDIENCE, CLI_ID, PASSWORD } from './realm.mjs';

const COOKIE = '__Host-Http-vestibule-web';

/** Requests at one moment after the end of a token. */
const CROWD = 40;

describe('before a real Keycloak', { timeout: 230_000 }, () => {
  const visit = visits(build, {
    viewport: { width: 900, height: 700 },
    witnesses: async ({ metrics }) => ({ 'the metrics of Vestibule': await (await fetch(metrics)).text() }),
  });

  test('a person logs in and calls the API; a realm role opens a path, and its lack closes it', async () => {
    const page = await signIn('ada');
    await look(page, 'keycloak-2-signed-in');
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('"path": "/api/hello?from=the+front"').waitFor();
    assert.equal((await get(page, '/api/staff/plans')).status, 200);
    const { json: claims } = await get(page, '/claims');
    assert.ok(claims.realm_access.roles.includes('staff'), JSON.stringify(claims));

    await visit.context.clearCookies();
    const other = await signIn('grace');
    assert.equal((await get(other, '/api/hello')).status, 200);
    const before = visit.house.api.calls.length;
    const refused = await get(other, '/api/staff/plans');
    assert.deepEqual([refused.status, refused.json.code], [403, 'forbidden']);
    assert.equal(visit.house.api.calls.length, before, 'the API was asked');
  });

  test('a crowd at the end of a token gets one new token, again and again, and nobody is logged out', async () => {
    const page = await signIn('ada');
    const { value } = (await visit.context.cookies(visit.house.app)).find(({ name }) => name === COOKIE);
    const headers = { cookie: `${COOKIE}=${value}`, 'user-agent': BROWSER, 'sec-fetch-site': 'same-origin' };
    const tokens = new Set();
    for (let round = 0; round < 3; round += 1) {
      const before = await refreshes();
      await page.waitForTimeout((ACCESS_TOKEN_SECONDS + 1) * 1_000);
      const calls = Array.from({ length: CROWD }, (_, n) => ask(`${visit.house.app}/api/${round}/${n}`, { headers }));
      const answers = await Promise.all(calls);
      assert.deepEqual(answers.map(({ status }) => status), Array(CROWD).fill(200));
      const seen = new Set(answers.map(({ body }) => JSON.parse(body).token));
      assert.equal(seen.size, 1, 'all of them left with one token');
      tokens.add([...seen][0]);
      assert.deepEqual(await refreshes(), { success: before.success + 1, failure: 0 });
    }
    assert.equal(tokens.size, 3, 'a new one in each round');
    assert.equal((await get(page, '/userinfo')).json.sub.length, 36);
  });

  test('a person logs out at Keycloak too, and comes back to a page that says so', async () => {
    const page = await signIn('ada');
    const ended = page.waitForRequest((request) => request.url().includes('/protocol/openid-connect/logout?'));
    await page.getByRole('button', { name: 'Log out' }).click();
    assert.match((await ended).url(), /[?&]id_token_hint=/);
    // With a hint Keycloak asks nothing.
    await page.getByRole('heading', { name: 'Signed out' }).waitFor();
    assert.equal(new URL(page.url()).pathname, '/logout/end');
    await page.goto(`${visit.house.app}/`);
    assert.equal((await get(page, '/api/after')).status, 401);
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.locator('#username').waitFor();
  });

  test('a CLI logs in by the device flow, and its token is verified', async () => {
    const cli = await program();
    const { status, start: told } = await cli.line();
    assert.equal(status, 200);
    assert.deepEqual([told.issuer, told.client_id], [visit.house.provider.issuer, CLI_ID]);
    const { open, endpoint } = await cli.line();
    assert.equal(endpoint, told.device_authorization_endpoint);
    const page = await visit.context.newPage();
    await page.goto(open);
    await enter(page, 'ada');
    await page.getByText('The command line client').first().waitFor();
    await look(page, 'keycloak-3-device');
    await page.locator('#kc-login').click();
    await page.getByText('Device Login Successful').waitFor();
    await page.close();
    const { status: called, body } = await cli.line();
    assert.deepEqual([called, body.path], [200, '/api/hello?from=the+cli']);
    assert.equal(await cli.over(), 0);
  });

  test('`check` warns of the audience that every token of a realm carries', async () => {
    const text = await readFile(visit.house.config, 'utf8');
    const file = join(dirname(visit.house.config), 'account.toml');
    await writeFile(file, text.replace(`audiences    = ["${AUDIENCE}"]`, 'audiences    = ["account"]'));
    const [said, quiet] = await Promise.all([check(file), check(visit.house.config)]);
    assert.match(said, /the audience `account` keeps nobody out: Keycloak puts it into the tokens of every client/);
    assert.doesNotMatch(quiet, /keeps nobody out/);
    // It is right to.
    const page = await signIn('grace');
    const { json } = await get(page, '/claims');
    assert.ok([json.aud].flat().includes('account'), JSON.stringify(json));
  });

  test('`check --online` tells a right secret from a wrong one', async () => {
    const right = await check(visit.house.config, '--online');
    for (const line of ['ok       keys', 'ok       client        web is known with its secret', 'ok       device flow']) {
      assert.ok(right.includes(line), right);
    }
    const [wrong, file] = ['secret', 'toml'].map((kind) => join(dirname(visit.house.config), `wrong.${kind}`));
    await writeFile(wrong, 'not the secret at all', { mode: 0o600 });
    const text = await readFile(visit.house.config, 'utf8');
    await writeFile(file, text.replace(/client_secret = .*/, `client_secret = { file = "${wrong}" }`));
    await assert.rejects(check(file, '--online'), ({ stdout }) => /error +client +web is not known/.test(stdout));
  });

  /** A new tab in which `person` has logged in by Keycloak's form. */
  async function signIn(person) {
    const page = await visit.open('/');
    await page.getByRole('link', { name: 'Log in' }).click();
    await enter(page, person);
    await page.getByText(`Signed in as ${person} (${person}@example.com)`).waitFor();
    return page;
  }

  async function enter(page, person) {
    await page.locator('#username').fill(person);
    await page.locator('#password').fill(PASSWORD);
    await look(page, 'keycloak-1-login');
    await page.locator('#kc-login').click();
  }

  /** The command line client of the browser stories. */
  function program() {
    const { app, authority } = visit.house;
    return start(process.execPath, [join(ROOT, 'tests/browser/cli.mjs'), app], { authority });
  }

  /** How many refreshes went well, and how many did not, as the metrics say; who waited for another's counts for neither. */
  async function refreshes() {
    const text = await (await fetch(visit.house.metrics)).text();
    const lines = [...text.matchAll(/^vestibule_token_refreshes_total\{.*?result="(\w+)".*\} (\d+)/gm)];
    const sum = (wanted) => lines.filter(([, result]) => wanted(result)).reduce((all, [, , n]) => all + Number(n), 0);
    const neither = ['success', 'shared'];
    return { success: sum((result) => result === 'success'), failure: sum((result) => !neither.includes(result)) };
  }
});

/** What the program says about a configuration. */
function check(file, ...more) {
  return new Promise((done, fail) => {
    execFile(vestibule(), ['check', '--config', file, ...more], (error, stdout, stderr) =>
      error ? fail(Object.assign(error, { stdout })) : done(stdout + stderr),
    );
  });
}

/** The page's own script asks for `path`. */
function get(page, path) {
  return page.evaluate(async (path) => {
    const answer = await fetch(path, { headers: { accept: 'application/json' } });
    const json = await answer.json().catch(() => undefined);
    return { status: answer.status, json };
  }, path);
}
