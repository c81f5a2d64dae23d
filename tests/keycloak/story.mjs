// What people and programs do before a real Keycloak: log in, call, renew, be kept out, log out.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { once } from 'node:events';
import { request } from 'node:http';
import { describe, test } from 'node:test';

import { look } from '../browser/chromium.mjs';
import { ask, ROOT, until, vestibule } from '../browser/house.mjs';
import { start } from '../browser/programs.mjs';
import { visits } from '../browser/visit.mjs';
import { ADMIN, BROWSER, build } from './house.mjs';
import { ACCESS_TOKEN_SECONDS, AUDIENCE, CLI_ID, PASSWORD, REALM } from './realm.mjs';

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

  test('an administrator signs a person out: every process knows within a second, and their WebSockets end', async () => {
    const [ada, grace] = [await session('ada'), await session('grace')];
    const { doors } = visit.house;
    const sockets = await Promise.all(doors.map((door) => openSocket(door, ada)));
    for (const door of doors) assert.deepEqual([await isIn(door, ada), await isIn(door, grace)], [true, true]);
    const id = await userId('ada');
    const began = performance.now();
    const ends = sockets.map(({ closed }) => within(10_000, closed).then(() => performance.now()));
    // Keycloak tells its clients before it answers, which takes its time when it has not done so before.
    await administer('POST', `/users/${id}/logout`);
    const answered = performance.now();
    const took = (await Promise.all(ends)).map((end) => end - answered);
    for (const door of doors) assert.deepEqual([await isIn(door, ada), await isIn(door, grace)], [false, true]);
    const times = took.map((ms) => ms.toFixed(0)).join(' and ');
    console.log(`  ${doors.length} processes: WebSockets ended ${times} ms after Keycloak's answer, which took ${(answered - began).toFixed(0)} ms`);
    assert.ok(Math.max(...took) < 1_000, `${took}`);
  });

  test('an administrator ends one session of a person, and the other stays', async () => {
    const path = `/users/${await userId('ada')}/sessions`;
    const sessions = async () => new Set((await administer('GET', path)).map(({ id }) => id));
    const before = await sessions();
    const laptop = await session('ada');
    const [sid] = [...(await sessions())].filter((id) => !before.has(id));
    const phone = await session('ada');
    await administer('DELETE', `/sessions/${sid}`);
    for (const door of visit.house.doors) {
      await until('one of them is out', async () => !(await isIn(door, laptop)), 1_000);
      assert.equal(await isIn(door, phone), true);
    }
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

  /** The session cookie of a new browser in which `person` has logged in. */
  async function session(person) {
    await visit.context.clearCookies();
    const page = await signIn(person);
    const { value } = (await visit.context.cookies(visit.house.app)).find(({ name }) => name === COOKIE);
    await page.close();
    return `${COOKIE}=${value}`;
  }

  function asBrowser(cookie) {
    return { cookie, 'user-agent': BROWSER, 'sec-fetch-site': 'same-origin', host: new URL(visit.house.app).host };
  }

  /** Whether the process at `door` takes this cookie. */
  function isIn(door, cookie) {
    return new Promise((done, fail) => {
      const sent = request(`http://127.0.0.1:${door}/check_auth`, { headers: asBrowser(cookie) }, async (answer) => {
        const chunks = [];
        for await (const chunk of answer) chunks.push(chunk);
        done(JSON.parse(Buffer.concat(chunks)).logged_in);
      });
      sent.on('error', fail).end();
    });
  }

  /** A WebSocket of the page at the process behind `door`. */
  function openSocket(door, cookie) {
    const headers = {
      ...asBrowser(cookie),
      origin: visit.house.app,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    };
    return new Promise((done, fail) => {
      const sent = request(`http://127.0.0.1:${door}/api/live`, { headers });
      sent.on('upgrade', (_, socket) => done({ closed: once(socket.on('error', () => {}).resume(), 'close') }));
      sent.on('response', ({ statusCode }) => fail(new Error(`no WebSocket: ${statusCode}`)));
      sent.on('error', fail).end();
    });
  }

  /** What the admin console does: a call of Keycloak's Admin REST API, in the realm of the stories. */
  async function administer(method, path) {
    const { origin } = new URL(visit.house.provider.issuer);
    const grant = { grant_type: 'password', client_id: 'admin-cli', username: ADMIN.name, password: ADMIN.password };
    const token = await fetch(`${origin}/realms/master/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams(grant),
    });
    const headers = { authorization: `Bearer ${(await token.json()).access_token}` };
    const answer = await fetch(`${origin}/admin/realms/${REALM}${path}`, { method, headers });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.status === 204 ? undefined : answer.json();
  }

  async function userId(username) {
    const [user] = await administer('GET', `/users?exact=true&username=${username}`);
    return user.id;
  }

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

/** Waits for `promise`, for so many milliseconds at most. */
function within(limit, promise) {
  const late = new Promise((_, fail) => setTimeout(fail, limit, new Error(`not within ${limit} ms`)).unref());
  return Promise.race([promise, late]);
}

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
