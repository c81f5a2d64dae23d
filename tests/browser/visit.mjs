// A person's visit to a house: one browser for all stories of a suite, a fresh context for each, every answer recorded, and
// after each story a search for tokens in all that the browser saw or could have kept.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';

import { launch } from './chromium.mjs';
import { leaks, pockets, watch } from './watch.mjs';

/**
 * Sets up the suite that this is called in, for the house that `build` raises. `witnesses` gives more texts in which no
 * token may stand, by name. Returns the visit, whose `house`, `context` and `answers` are those of the running story.
 */
export function visits(build, { viewport, witnesses }) {
  const visit = {};
  let browser;

  before(async () => {
    visit.house = await build();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await visit.house?.down();
  });

  beforeEach(async () => {
    visit.answers = [];
    visit.context = await browser.newContext({ ignoreHTTPSErrors: true, viewport });
    visit.context.setDefaultTimeout(15_000);
  });

  afterEach(async () => {
    const { answers, context, house } = visit;
    assert.ok(answers.length > 0 || context.pages().length === 0, 'the spy saw nothing');
    const here = context.pages().filter((page) => page.url().startsWith(house.app));
    const held = await Promise.all(here.map(pockets));
    held.push({ 'the cookies': JSON.stringify(await context.cookies(house.app)) });
    await context.close();
    const { issued, endSession } = house.provider;
    held.push({ 'the log of Vestibule': await house.log(), ...(await witnesses(house)) });
    assert.deepEqual(leaks({ issued, answers, pockets: held, endSession }), []);
  });

  /** A new tab at `path` whose answers are recorded. */
  visit.open = async (path) => {
    const page = await visit.context.newPage();
    await watch(page, visit.house.app, visit.answers);
    await page.goto(`${visit.house.app}${path}`);
    return page;
  };

  return visit;
}
