// What a person does, told once for each thing that can go wrong on the way: a real browser, a real Caddy, a certified
// provider, and Vestibule between them. After every story all that the browser saw is searched for tokens.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { connect } from 'node:tls';

import { startApi } from './api.mjs';
import { look } from './chromium.mjs';
import { aLoginCanBegin, ask, raise, ROOT, startCaddy, startVestibule, until } from './house.mjs';
import { startProvider } from './provider.mjs';
import { visits } from './visit.mjs';
import { leaks } from './watch.mjs';

/** How long streams are kept open before they are cut. */
const STREAM_SECONDS = Number(process.env.STREAM_SECONDS ?? 5);
const COOKIE = '__Host-Http-vestibule-web';

/** How long an access token lives; short, so that a story can wait for its end. */
const ACCESS_TOKEN_SECONDS = 4;

describe('behind a real Caddy, before a certified provider', { timeout: 180_000 + STREAM_SECONDS * 1_000 }, () => {
  const visit = visits(build, {
    viewport: { width: 900, height: 560 },
    witnesses: async ({ metrics }) => ({ 'the metrics of Vestibule': await (await fetch(metrics)).text() }),
  });

  test('a person logs in, sees who they are and calls the API', async () => {
    const page = await visit.open('/');
    await page.getByText('Nobody is signed in').waitFor();
    await look(page, '1-signed-out');
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor();
    await look(page, '2-at-the-provider');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Signed in as ada (ada@example.com)').waitFor();
    assert.equal(page.url(), `${visit.house.app}/`);
    assert.equal(visit.house.provider.sites.at(-1), 'cross-site');

    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('"sub": "ada"').waitFor();
    await look(page, '3-called-the-api');
    const call = visit.house.api.calls.at(-1);
    assert.deepEqual([call.method, call.path, call.cookies], ['GET', '/api/hello?from=the+front', []]);

    const userinfo = await get(page, '/userinfo');
    assert.equal(userinfo.status, 200);
    const { sub, given_name, family_name, updated_at, email_verified } = userinfo.json;
    assert.deepEqual([sub, given_name, family_name, updated_at], ['ada', 'Ada', 'Lovelace', 1_700_000_000]);
    assert.equal(email_verified, true);
    assert.deepEqual((await get(page, '/check_auth')).json, { logged_in: true });
  });

  test('the cookie is out of reach for scripts, other hosts and other sites', async () => {
    await signIn(await visit.open('/'));
    const cookies = await visit.context.cookies(visit.house.app);
    const session = cookies.find(({ name }) => name === COOKIE);
    assert.ok(session, 'there is no session cookie');
    for (const { name, domain, httpOnly, path, sameSite, secure } of cookies) {
      const kept = { domain: 'localhost', httpOnly: true, path: '/', sameSite: 'Lax', secure: true };
      assert.deepEqual({ domain, httpOnly, path, sameSite, secure }, kept, name);
    }
    assert.deepEqual(cookies.filter(({ name }) => name.includes('.login.')), [], 'login cookies end with the login');
    const lines = visit.answers.flatMap(({ headers }) => headers).filter(({ name }) => name === 'Set-Cookie');
    const ours = lines.map((line) => line.value).filter((line) => line.startsWith(COOKIE));
    assert.ok(ours.some((line) => line.includes(session.value)), 'the spy saw how the cookie was set');
    assert.deepEqual(ours.filter((line) => /;\s*domain=/i.test(line)), [], 'a cookie was set for a whole domain');
  });

  test('an access token that has expired is renewed within the next call', async () => {
    const page = await visit.open('/');
    await signIn(page);
    const first = (await get(page, '/api/first')).json.token;
    const { expiresAt } = visit.house.provider.tokenAnswers.at(-1);
    await page.waitForTimeout(Math.max(0, expiresAt + 1_100 - Date.now()));
    const second = await get(page, '/api/second');
    assert.equal(second.status, 200);
    assert.notEqual(second.json.token, first, 'the API saw the old token again');
    assert.equal(visit.house.provider.tokenAnswers.at(-1).grant, 'refresh_token');

    // Many calls at once over the next end of life: one refresh, nobody is logged out, no token used twice.
    await page.waitForTimeout(Math.max(0, visit.house.provider.tokenAnswers.at(-1).expiresAt + 1_100 - Date.now()));
    const before = visit.house.provider.tokenAnswers.length;
    const many = await Promise.all(Array.from({ length: 12 }, (_, n) => get(page, `/api/many/${n}`)));
    assert.deepEqual(many.map(({ status }) => status), Array(12).fill(200));
    assert.equal(visit.house.provider.tokenAnswers.length - before, 1, 'one refresh for all of them');
    assert.equal(visit.house.provider.reuses(), 0);
  });

  test('two tabs log in at the same time, and both end logged in', async () => {
    const tabs = await Promise.all([visit.open('/?tab=one'), visit.open('/?tab=two')]);
    await Promise.all(tabs.map((page) => page.getByRole('link', { name: 'Log in' }).click()));
    await Promise.all(tabs.map((page) => page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor()));
    await Promise.all(tabs.map((page) => page.getByRole('button', { name: 'Sign in' }).click()));
    await Promise.all(tabs.map((page) => page.getByText('Signed in as ada').waitFor()));
    assert.deepEqual(tabs.map((page) => page.url()), [`${visit.house.app}/?tab=one`, `${visit.house.app}/?tab=two`]);
    const calls = await Promise.all(tabs.map((page) => get(page, '/api/tab')));
    assert.deepEqual(calls.map(({ status }) => status), [200, 200]);
    await look(tabs[1], '4-second-tab');
  });

  test('a person logs out at the provider too, and the API is closed', async () => {
    const page = await visit.open('/');
    await signIn(page);
    const other = await visit.open('/');
    await other.getByText('Signed in as ada').waitFor();
    const stolen = (await visit.context.cookies(visit.house.app)).find(({ name }) => name === COOKIE);

    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'Sign out?' }).waitFor();
    assert.ok(page.url().startsWith(`${visit.house.provider.issuer}/session/end?`), 'the browser is at the provider');
    await page.getByRole('button', { name: 'Sign out everywhere' }).click();
    await page.getByRole('heading', { name: 'Signed out' }).waitFor();
    assert.equal(new URL(page.url()).pathname, '/logout/end');
    await look(page, '5-signed-out-page');

    assert.equal((await get(other, '/api/after')).status, 401);
    assert.equal((await get(other, '/userinfo')).status, 401);
    const cookies = await visit.context.cookies(visit.house.app);
    // What may stay for a minute is the count of logins that breaks loops.
    assert.deepEqual(cookies.filter(({ name }) => name !== `${COOKIE}.loops`), [], 'no cookie stays');
    // Whoever kept a copy of the cookie has nothing.
    const replay = await ask(`${visit.house.app}/api/after`, { headers: { cookie: `${stolen.name}=${stolen.value}` } });
    assert.equal(replay.status, 401);

    await page.goto(`${visit.house.app}/`);
    await page.getByText('Nobody is signed in').waitFor();
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor();
  });

  test('a login that is cancelled ends on a page that says so', async () => {
    const page = await visit.open('/');
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('access_denied').waitFor();
    await look(page, '6-cancelled');
    const text = await page.locator('body').innerText();
    assert.ok(!text.includes('cancelled> the sign-in'), "the provider's own words are shown");
    await page.getByRole('link', { name: 'Start again' }).click();
    await page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor();
  });

  test('another site may link to the app, but not act in it', async () => {
    const page = await visit.open('/');
    await signIn(page);
    const before = visit.house.api.calls.length;
    await page.goto(`${visit.house.provider.issuer}/.well-known/openid-configuration`);
    await page.evaluate(async (app) => {
      const paths = ['/api/steal', '/logout', '/refresh'];
      const calls = paths.map((path) =>
        fetch(`${app}${path}`, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => {}),
      );
      await Promise.all(calls);
    }, visit.house.app);
    await page.setContent(`<form method="post" action="${visit.house.app}/api/form"><button>Win a prize</button></form>
      <a href="${visit.house.app}/">A link in a mail</a>`);
    const [refused] = await Promise.all([
      page.waitForResponse(`${visit.house.app}/api/form`),
      page.getByRole('button', { name: 'Win a prize' }).click(),
    ]);
    assert.equal(refused.status(), 403);
    await look(page, '7-refused-form');
    assert.equal(visit.house.api.calls.length, before, 'the API was called from another site');

    await page.goto(`${visit.house.provider.issuer}/.well-known/openid-configuration`);
    await page.setContent(`<a href="${visit.house.app}/">A link in a mail</a>`);
    await page.getByRole('link').click();
    await page.getByText('Signed in as ada').waitFor();
  });

  test('a refused upload does not leave its rest to be read as the next request', async () => {
    // Which of the two sees the end first is a race between Caddy and Vestibule, so it is run more than once.
    const rounds = [];
    for (let round = 0; round < 5; round += 1) rounds.push(await refusedUpload(visit.house.app));
    assert.deepEqual(rounds.filter((answers) => answers.length > 1), [], 'several answers to one request');
    assert.deepEqual([...new Set(rounds.flat())], ['401']);
  });

  test('what is open stays open, and is cut within a second when its person logs out', async () => {
    const page = await visit.open('/');
    await signIn(page);
    // Not through the spy, which holds an answer until its end; what came is put into the page, where it looks as well.
    const live = await visit.context.newPage();
    await live.goto(`${visit.house.app}/`);
    await live.evaluate(() => {
      const seen = (window.seen = { events: 0, echoes: 0, broken: 0, closed: 0 });
      const show = (text) => document.body.append(text);
      const events = new EventSource('/api/events');
      const socket = new WebSocket(`wss://${location.host}/api/socket`);
      const talk = setInterval(() => socket.readyState === 1 && socket.send(`at ${Date.now()}`), 500);
      events.onmessage = ({ data }) => show(data, (seen.events += 1));
      socket.onmessage = ({ data }) => show(data, (seen.echoes += 1));
      events.onerror = () => (seen.broken ||= Date.now());
      socket.onclose = () => clearInterval(talk, (seen.closed ||= Date.now()));
    });
    const seen = () => live.evaluate(() => window.seen);
    await until('both speak', async () => (await seen()).events > 0 && (await seen()).echoes > 0);
    await live.waitForTimeout(STREAM_SECONDS * 1_000);
    const { events, echoes, broken, closed } = await seen();
    assert.deepEqual({ events, broken, closed }, { events: 1, broken: 0, closed: 0 }, 'one connection, never broken');
    assert.ok(echoes >= STREAM_SECONDS, `only ${echoes} echoes in ${STREAM_SECONDS} s`);
    assert.equal(visit.house.api.open.size, 2);

    const began = await page.evaluate(async () => {
      const began = Date.now();
      await fetch('/logout', { method: 'POST' });
      return began;
    });
    await until('both are cut', async () => (await seen()).broken > 0 && (await seen()).closed > 0);
    const after = await seen();
    const took = [after.broken - began, after.closed - began];
    assert.ok(Math.max(...took) < 1_000, `cut after ${took.join(' and ')} ms`);
    await until('the API has noticed', () => visit.house.api.open.size === 0);
    assert.equal((await get(live, '/api/events')).status, 401);
  });

  test('the spy finds a token wherever one is', () => {
    const issued = new Map([['eyJh.cGF5bG9hZA.c2lnbmF0dXJl', 'ID token'], ['opaque-access', 'access token']]);
    const answer = (change) => ({ url: `${visit.house.app}/x`, method: 'GET', type: 'Document', status: 200, headers: [], body: '', ...change });
    const endSession = 'https://id.example.com/end';
    const location = (value) => answer({ status: 302, headers: [{ name: 'Location', value }] });
    const hint = `${endSession}?id_token_hint=eyJh.cGF5bG9hZA.c2lnbmF0dXJl&state=s`;
    const found = (change, held = []) => leaks({ issued, answers: [change], pockets: held, endSession }).length;
    assert.equal(found(answer({ body: '{"a":"opaque-access"}' })), 1);
    assert.equal(found(answer({ body: 'of anybody: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c29tZWJvZHk' })), 1);
    assert.equal(found(answer({ unread: 'no body' })), 1);
    assert.equal(found(answer({ body: 'only the payload: cGF5bG9hZA' })), 1);
    assert.equal(found(answer({ headers: [{ name: 'X-Debug', value: 'opaque-access' }] })), 1);
    assert.equal(found(answer({}), [{ localStorage: '{"t":"opaque-access"}' }]), 1);
    assert.equal(found(location(hint)), 0);
    assert.equal(found({ ...location(hint), type: 'Fetch' }), 1);
    assert.equal(found(location(`${endSession}?state=opaque-access`)), 1);
    assert.equal(found(location(hint.replace(endSession, 'https://evil.example.com/end'))), 1);
  });

  /** Through the provider's form and back to where the page was. */
  async function signIn(page) {
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Signed in as ada').waitFor();
  }

  /** What the page's own script gets for a GET of `path`. */
  function get(page, path) {
    return page.evaluate(async (path) => {
      const answer = await fetch(path, { headers: { accept: 'application/json' } });
      const json = await answer.json().catch(() => undefined);
      return { status: answer.status, json };
    }, path);
  }
});

/** The smallest house: a front end and an API behind one auth-code route. */
function build() {
  return raise('story', async ({ work, app, door, metrics, keep }) => {
    const provider = await keep(startProvider({ app, accessTokenSeconds: ACCESS_TOKEN_SECONDS }));
    const api = await keep(startApi({ issuer: provider.issuer }));
    const routes = `[routes.web]
mode       = "auth-code"
public_url = "${app}"
upstream   = "${api.url}"
`;
    const { log } = await keep(startVestibule({ work, door, metrics, issuer: provider.issuer, routes }));
    await keep(startCaddy({ work, app, door, sites: join(ROOT, 'Caddyfile') }));
    await aLoginCanBegin(`${app}/login/start`);
    return { provider, api, metrics: `http://127.0.0.1:${metrics}/metrics`, log };
  });
}

/** The status codes of all answers to one upload without a session, whose body is full of requests. */
function refusedUpload(app) {
  const { hostname, port, host } = new URL(app);
  const body = `GET /check_auth HTTP/1.1\r\nHost: ${host}\r\n\r\n`.repeat(200_000);
  return new Promise((done, fail) => {
    const socket = connect({ host: '127.0.0.1', port, servername: hostname, rejectUnauthorized: false });
    let text = '';
    const end = () => done([...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status));
    socket.setTimeout(20_000, () => socket.destroy(new Error('the connection was left open')));
    socket.on('data', (data) => (text += data));
    // Being cut off in the middle of the upload is a good end as well.
    socket.on('error', (error) => (['EPIPE', 'ECONNRESET'].includes(error.code) ? end() : fail(error)));
    socket.on('close', end);
    socket.write(`POST /api/upload HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${app}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    socket.write(`${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n\r\n`);
  });
}
