// A legacy app behind a login: Radicale knows nothing of OpenID Connect and believes X-Remote-User, whoever sends it.
// Vestibule proxies it whole, so that header is Vestibule's alone, and the app is asked who it takes a person for.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';

import { look } from './chromium.mjs';
import { aLoginCanBegin, ask, raise, ROOT, startCaddy, startVestibule } from './house.mjs';
import { startProvider } from './provider.mjs';
import { startRadicale } from './radicale.mjs';
import { visits } from './visit.mjs';

const BASE = '/.vestibule';
const COOKIE = '__Host-Http-vestibule-calendars';

/** The app's header as an attacker would write it; to programs that think in CGI variables several are the same. */
const SPELLINGS = ['X-Remote-User', 'x-remote-user', 'X_Remote_User', 'X_REMOTE-USER', 'x-remote_user', 'X.Remote.User'];

/** Any of these names, in a request head. */
const ANY_SPELLING = /^x[-_.]remote[-_.]user *:.*$/gim;

/** The question of every CalDAV client: whom do you take me for? */
const WHO = '<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>';

describe('a legacy app that believes X-Remote-User', { timeout: 120_000 }, () => {
  const visit = visits(build, {
    viewport: { width: 900, height: 640 },
    witnesses: ({ radicale }) => ({ 'what reached the app': radicale.heads().join('\n') }),
  });

  afterEach(() => {
    const ours = visit.house.radicale.heads().filter((head) => /vestibule-calendars/.test(head));
    assert.deepEqual(ours, [], 'a cookie of Vestibule reached the app');
  });

  test('the way to a page of the app leads through the login, and to the things of that person', async () => {
    const before = visit.house.radicale.heads().length;
    const page = await visit.open('/.web/?from=a%20mail#today');
    await page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor();
    assert.equal(visit.house.radicale.heads().length, before, 'the app was asked before the login');
    await page.getByRole('button', { name: 'Sign in' }).click();
    // Radicale's own words about who is here.
    await page.getByText("ada's Collections").waitFor();
    await page.getByText('Engines of Ada').waitFor();
    assert.equal(await page.getByText('Plans of Bob').count(), 0);
    assert.equal(new URL(page.url()).pathname + new URL(page.url()).search, '/.web/?from=a%20mail');
    await look(page, 'legacy-1-signed-in');

    // The page itself makes a collection: methods of WebDAV, with bodies.
    await page.locator('[data-name=new]').click();
    const form = page.locator('#createcollectionscene');
    await form.locator('[data-name=displayname]').fill('Notes on the engine');
    await form.locator('[data-name=submit]').click();
    await page.getByRole('heading', { name: 'Notes on the engine' }).waitFor();
    await look(page, 'legacy-2-made-a-calendar');
    assert.match(await collections('ada'), /Notes on the engine/);
    assert.deepEqual(named(visit.house.radicale.heads().slice(before)), ['x-remote-user: ada']);
  });

  test('cookies of the app are its own, ours and the Authorization header are not', async () => {
    const page = await signIn('/.web/');
    const before = visit.house.radicale.heads().length;
    await page.evaluate(() => (document.cookie = 'theme=dark; path=/'));
    assert.equal(await who(page, { authorization: 'Basic Ym9iOmJvYg==' }), '/ada/');
    const heads = questions(visit.house.radicale.heads().slice(before));
    assert.deepEqual(heads.map((head) => head.match(/^cookie: *(.*)$/im)?.[1]), ['theme=dark']);
    assert.deepEqual(heads.filter((head) => /^authorization/im.test(head)), []);
  });

  test('who sends the header along stays who they are, in every spelling', async () => {
    // The app itself does believe it, even misspelt: without that this test would show nothing.
    for (const name of ['X-Remote-User', 'X_Remote_User']) {
      const answer = await raw(visit.house.radicale.direct, { [name]: 'bob' });
      assert.match(answer, /<href>\/bob\/<\/href>/, name);
    }
    const page = await signIn('/.web/');
    const before = visit.house.radicale.heads().length;
    for (const name of SPELLINGS) assert.equal(await who(page, { [name]: 'bob' }), '/ada/', name);
    const all = Object.fromEntries(SPELLINGS.slice(1).map((name) => [name, 'bob']));
    assert.equal(await who(page, all), '/ada/');
    // A script cannot send Connection, other clients can; it would have proxies drop what they themselves put there.
    const [{ value }] = (await visit.context.cookies(visit.house.app)).filter(({ name }) => name === COOKIE);
    const headers = { cookie: `${COOKIE}=${value}`, origin: visit.house.app, connection: 'close, X-Remote-User', ...all };
    const answer = await propfind(headers);
    assert.equal(answer.status, 207);
    assert.match(answer.body, /<href>\/ada\/<\/href>/);
    const heads = visit.house.radicale.heads().slice(before);
    assert.equal(questions(heads).length, SPELLINGS.length + 2, heads.join('\n'));
    assert.deepEqual(named(heads), ['x-remote-user: ada']);
    assert.deepEqual(heads.filter((head) => head.includes('bob')), []);

    // The same for a whole page, from the first request on.
    await visit.context.setExtraHTTPHeaders(all);
    await page.reload();
    await page.getByText("ada's Collections").waitFor();
    await page.getByText('Engines of Ada').waitFor();
    await look(page, 'legacy-3-still-ada');
  });

  test('without a session the header opens nothing', async () => {
    const before = visit.house.radicale.heads().length;
    for (const name of SPELLINGS) {
      const answer = await propfind({ [name]: 'bob', origin: visit.house.app });
      assert.deepEqual([answer.status, JSON.parse(answer.body).code], [401, 'login_required'], name);
      const page = await ask(`${visit.house.app}/.web/`, { headers: { [name]: 'bob', accept: 'text/html' } });
      assert.deepEqual([page.status, page.headers.location.split('?')[0]], [302, `${visit.house.app}${BASE}/login/start`], name);
    }
    assert.deepEqual(visit.house.radicale.heads().slice(before), [], 'the app saw somebody without a session');

    // What is open to everybody is open to nobody in particular.
    for (const name of SPELLINGS) {
      const style = await ask(`${visit.house.app}/.web/css/main.css`, { headers: { [name]: 'bob' } });
      assert.equal(style.status, 200);
    }
    const heads = visit.house.radicale.heads().slice(before);
    assert.equal(heads.length, SPELLINGS.length);
    assert.deepEqual(named(heads), []);
  });

  test('a person outside the group is kept out, with a page that says so', async () => {
    const before = visit.house.radicale.heads().length;
    const page = await visit.open('/.web/');
    await page.getByLabel('Name').fill('grace');
    const [refused] = await Promise.all([
      page.waitForResponse((answer) => answer.url() === `${visit.house.app}/.web/`),
      page.getByRole('button', { name: 'Sign in' }).click(),
    ]);
    assert.equal(refused.status(), 403);
    await page.getByRole('heading').first().waitFor();
    assert.match(refused.headers()['content-type'], /^text\/html/);
    await look(page, 'legacy-4-kept-out');
    assert.deepEqual(visit.house.radicale.heads().slice(before), []);
  });

  test('logging out ends it, for the app too', async () => {
    const page = await signIn('/.web/');
    const other = await visit.open('/.web/');
    await other.getByText("ada's Collections").waitFor();
    await page.goto(`${visit.house.app}${BASE}/logout`);
    // An address that somebody typed may be one that somebody was given.
    await page.getByRole('heading', { name: 'Sign out?' }).waitFor();
    await look(page, 'legacy-5-really');
    await page.getByRole('link', { name: 'Sign out', exact: true }).click();
    await page.getByRole('button', { name: 'Sign out everywhere' }).click();
    await page.getByRole('heading', { name: 'Signed out' }).waitFor();
    assert.equal(new URL(page.url()).pathname, `${BASE}/logout/end`);
    await look(page, 'legacy-6-signed-out');

    const before = visit.house.radicale.heads().length;
    assert.equal(await who(other), 401);
    await page.goto(`${visit.house.app}/.web/`);
    await page.getByRole('heading', { name: 'Sign in at the provider' }).waitFor();
    assert.deepEqual(visit.house.radicale.heads().slice(before), []);
  });

  /** A new tab at `path`, through the provider's form as ada, and at rest. */
  async function signIn(path) {
    const page = await visit.open(path);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Engines of Ada').waitFor();
    return page;
  }

  /** Whom the app takes the page's own script for: the path of that person, or the status of a refusal. */
  function who(page, headers = {}) {
    return page.evaluate(
      async ([headers, body]) => {
        const answer = await fetch('/', { method: 'PROPFIND', headers: { depth: '0', ...headers }, body });
        const xml = new DOMParser().parseFromString(await answer.text(), 'application/xml');
        return answer.ok ? xml.querySelector('current-user-principal > href')?.textContent : answer.status;
      },
      [headers, WHO],
    );
  }

  /** The same question past the browser, without a body: then everything is asked for. */
  function propfind(headers) {
    return ask(`${visit.house.app}/`, { method: 'PROPFIND', headers: { depth: '0', ...headers } });
  }

  /** What the app itself keeps of `person`. */
  function collections(person) {
    return raw(`${visit.house.radicale.direct}/${person}/`, { 'x-remote-user': person, depth: '1' });
  }
});

/** The different lines of these heads that could be taken for X-Remote-User. */
function named(heads) {
  return [...new Set(heads.flatMap((head) => head.match(ANY_SPELLING) ?? []))];
}

/** Those of `heads` that ask who somebody is: the page may still be fetching its icons beside them. */
function questions(heads) {
  return heads.filter((head) => head.startsWith('PROPFIND '));
}

/** The app's own answer to who somebody is and what they have, without anything before it. */
async function raw(url, headers) {
  const answer = await fetch(url, { method: 'PROPFIND', headers: { depth: '0', ...headers } });
  assert.equal(answer.status, 207);
  return answer.text();
}

/** Gives each of two people a calendar. */
async function furnish(app) {
  for (const [person, name] of [['ada', 'Engines of Ada'], ['bob', 'Plans of Bob']]) {
    const headers = { 'x-remote-user': person };
    const body = `<C:mkcalendar xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><set><prop>
      <displayname>${name}</displayname></prop></set></C:mkcalendar>`;
    const made = await fetch(`${app}/${person}/calendar/`, { method: 'MKCALENDAR', headers, body });
    assert.equal(made.status, 201);
  }
}

/** A route that has the whole site, and nothing of its own on the app's paths. */
function build() {
  return raise('legacy', async ({ work, app, door, metrics, keep }) => {
    const provider = await keep(startProvider({ app, accessTokenSeconds: 600, base: BASE }));
    const radicale = await keep(startRadicale({ work }));
    await furnish(radicale.direct);
    const { issuer } = provider;
    const routes = describeRoute({ app, upstream: radicale.url });
    const { log } = await keep(startVestibule({ name: 'vestibule-legacy', work, door, metrics, issuer, routes }));
    const sites = join(work, 'sites.caddyfile');
    const snippet = join(ROOT, 'src/config/vestibule.caddyfile');
    await writeFile(sites, `import ${snippet}\n${app} {\n\treverse_proxy 127.0.0.1:${door} {\n\t\timport vestibule\n\t}\n}\n`);
    await keep(startCaddy({ work, app, door, sites }));
    await aLoginCanBegin(`${app}${BASE}/login/start`);
    return { provider, radicale, log };
  });
}

function describeRoute({ app, upstream }) {
  return `[routes.calendars]
mode       = "auth-code"
public_url = "${app}"
base_path  = "${BASE}"
upstream   = "${upstream}"

[routes.calendars.paths."/"]
unauthenticated  = "login"
allowed_groups   = ["staff"]
identity_headers = { "X-Remote-User" = "preferred_username" }
authorization    = "remove"

[routes.calendars.paths."/.web/css/"]
unauthenticated = "pass"
`;
}
