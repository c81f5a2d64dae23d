// The demo as a newcomer meets it: the one command, the one line to open, and every page behind it, light and dark.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { launch, look } from './chromium.mjs';
import { run, until } from './house.mjs';
import { pockets, watch } from './watch.mjs';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** What no page may ever see: a JWT, or the mark that all secrets of the development provider have. */
const SECRET = /eyJ[\w-]+\.[\w-]+|canary-demo-/;

describe('the demo', { timeout: 180_000 }, () => {
  let work;
  let demo;
  let app;
  let config;
  let browser;
  let context;
  let answers;
  let complaints;

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'vestibule-demo-story-'));
    demo = await run('demo', process.env.DEMO_BIN ?? join(ROOT, 'target/tools/vestibule-demo'), ['demo'], work, {});
    await until('the demo is open', async () => (await demo.log()).includes('Ctrl-C stops everything'));
    const said = await demo.log();
    [, app] = said.match(/Open this in your browser: +(\S+)/);
    [, config] = said.match(/Edit (\S+)/);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await demo?.stop();
    const said = (await demo?.log()) ?? '';
    await rm(work, { recursive: true, force: true });
    assert.match(said, /The demo is over: .* gone, and so is /);
    assert.match(said, /\d+ sign-ins, [1-9]\d* tokens? renewed/);
    assert.doesNotMatch(said, SECRET);
  });

  beforeEach(async () => {
    answers = [];
    complaints = [];
    context = await browser.newContext({ viewport: { width: 1000, height: 800 } });
    context.setDefaultTimeout(15_000);
  });

  afterEach(async () => {
    const here = context.pages().filter((page) => page.url().startsWith(app));
    const held = await Promise.all(here.map(pockets));
    await context.close();
    assert.deepEqual(complaints, []);
    assert.ok(answers.length > 0, 'the spy saw nothing');
    for (const { url, headers, body } of answers) {
      // Only a redirect to the provider may hold the hint of who leaves, and no script can read that one.
      const lines = headers.filter(({ name, value }) => name.toLowerCase() !== 'location' || value.startsWith(app));
      for (const text of [body, ...lines.map(({ value }) => value)]) assert.doesNotMatch(text, SECRET, url);
    }
    for (const pocket of held) assert.doesNotMatch(JSON.stringify(pocket), SECRET);
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`every page, ${colorScheme}`, async () => {
      const page = await open({ colorScheme });
      const picture = (name) => look(page, `demo-${colorScheme}-${name}`, { fullPage: true });
      await page.getByRole('heading', { name: 'Nobody is signed in' }).waitFor();
      await page.getByText('got a 401: nobody').waitFor();
      await picture('1-signed-out');

      await page.getByRole('link', { name: 'Sign in' }).click();
      await page.getByRole('heading', { name: 'Who are you?' }).waitFor();
      await picture('2-picker');
      await page.getByRole('button', { name: 'Do not log in' }).click();
      await page.getByText('access_denied').waitFor();
      await picture('3-error-page');
      await page.getByRole('link', { name: 'Start again' }).click();
      const back = page.waitForRequest((request) => request.url().startsWith(`${app}/login/end`));
      await page.getByRole('button', { name: 'Alice Adams' }).click();
      assert.equal((await (await back).allHeaders())['sec-fetch-site'], 'cross-site');
      await page.getByRole('heading', { name: 'Hello, Alice' }).waitFor();
      await page.getByText('a cookie that no script can read').waitFor();
      await page.locator('#token-left').getByText('left').waitFor();
      await picture('4-signed-in');

      await page.getByRole('button', { name: 'Call the API' }).click();
      await page.getByRole('heading', { name: 'What the API saw' }).waitFor();
      await page.getByText('staff, admins').waitFor();
      await page.getByText('The whole answer').click();
      await page.getByText('"verified_by"').waitFor();
      await picture('5-api-answer');
      await page.setViewportSize({ width: 390, height: 800 });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it does not fit a phone');
      await picture('6-on-a-phone');

      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.getByRole('heading', { name: 'Signed out' }).waitFor();
      await picture('7-signed-out-page');
      await page.getByRole('link', { name: 'Continue' }).click();
      await page.getByRole('heading', { name: 'Nobody is signed in' }).waitFor();
    });
  }

  test('a token that is about to end is renewed within a call, and the page says so', async () => {
    const page = await open();
    await signIn(page, 'Alice Adams');
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('put your access token in').waitFor();
    await page.locator('#token-left').getByText(/^00:0[1-5] left$/).waitFor({ timeout: 40_000 });
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('renewed it within this very call').waitFor();
  });

  test('an edit of the config file closes a door while people are in', async () => {
    const text = await readFile(config, 'utf8');
    const page = await open();
    await signIn(page, 'Bob Brown');
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByRole('heading', { name: 'What the API saw' }).waitFor();

    // As the page suggests: the last two lines, and a shorter idle time.
    const lines = text.replace('idle_timeout = "30m"', 'idle_timeout = "2m"').trimEnd().split('\n');
    const edited = lines.map((line, at) => (at < lines.length - 2 ? line : line.replace('# ', '')));
    await writeFile(config, `${edited.join('\n')}\n`);
    await until('the edit is served', async () => (await demo.log()).includes('configuration reloaded'));
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('refused the call with a 403: you are not among those who may').waitFor();
    await look(page, 'demo-refused', { fullPage: true });
    await page.evaluate(() => dispatchEvent(new Event('focus')));
    await page.locator('#idle-left').getByText(/^0[12]:\d\d left$/).waitFor();

    await writeFile(config, text.replace('mode ', 'mood '));
    await until('the mistake is named', async () => (await demo.log()).includes('configuration refused'));
    await writeFile(config, text);
  });

  test('a session that ended in another tab is over here, too', async () => {
    const page = await open();
    await signIn(page, 'Carol Clark');
    const other = await open();
    await other.getByRole('heading', { name: 'Hello, Carol' }).waitFor();
    await other.getByRole('button', { name: 'Sign out' }).click();
    await other.getByRole('heading', { name: 'Signed out' }).waitFor();
    await page.getByRole('button', { name: 'Call the API' }).click();
    await page.getByText('The API never heard of it').waitFor();
    await page.getByRole('link', { name: 'Sign in' }).waitFor();
  });

  test('all of it works without a mouse', async () => {
    const page = await open();
    await page.getByRole('link', { name: 'Sign in' }).waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Who are you?' }).waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Call the API' }).waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'What the API saw' }).waitFor();
  });

  /** A new tab at the line to open. What its script complains of is noted; a refusal that it asked for is none. */
  async function open({ colorScheme = 'light' } = {}) {
    const page = await context.newPage();
    await page.emulateMedia({ colorScheme });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (line) => {
      const expected = /status of (400|401|403|404)/.test(line.text());
      if (line.type() === 'error' && !expected) complaints.push(line.text());
    });
    await watch(page, app, answers);
    await page.goto(app);
    return page;
  }

  /** Through the provider's picker and back. */
  async function signIn(page, name) {
    await page.getByRole('link', { name: 'Sign in' }).click();
    await page.getByRole('button', { name }).click();
    await page.getByRole('heading', { name: `Hello, ${name.split(' ')[0]}` }).waitFor();
  }
});
