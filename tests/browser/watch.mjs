// The spy of the browser stories: it keeps every answer of the application as the browser gets it, and looks into
// every place where a script could keep or find something, so that no token can be there unnoticed.

/**
 * Records, on the page's own connection to the browser, the status, headers and body of each answer from `app`
 * before the page sees it. Answers are held until they are recorded, so a later navigation cannot hide one.
 */
export async function watch(page, app, answers) {
  const cdp = await page.context().newCDPSession(page);
  cdp.on('Fetch.requestPaused', async ({ requestId, request, resourceType, responseStatusCode, responseHeaders }) => {
    const redirect = responseStatusCode >= 300 && responseStatusCode < 400;
    // A redirect has no body that a browser would show or hand out.
    const none = { body: '', base64Encoded: false };
    const unread = (error) => ({ ...none, unread: error.message });
    const content = redirect ? none : await cdp.send('Fetch.getResponseBody', { requestId }).catch(unread);
    answers.push({
      url: request.url,
      method: request.method,
      type: resourceType,
      status: responseStatusCode,
      headers: responseHeaders ?? [],
      body: Buffer.from(content.body, content.base64Encoded ? 'base64' : 'utf8').toString('latin1'),
      unread: content.unread,
    });
    await cdp.send('Fetch.continueRequest', { requestId }).catch(() => {});
  });
  // `Set-Cookie` is kept from the interception above; the network itself tells it, several lines as one text.
  cdp.on('Network.responseReceivedExtraInfo', ({ headers, statusCode }) => {
    const cookies = Object.entries(headers).find(([name]) => name.toLowerCase() === 'set-cookie')?.[1].split('\n') ?? [];
    const lines = cookies.map((value) => ({ name: 'Set-Cookie', value }));
    if (lines.length) answers.push({ url: app, method: 'any', type: 'Cookies', status: statusCode, headers: lines, body: '' });
  });
  await cdp.send('Network.enable');
  await cdp.send('Fetch.enable', { patterns: [{ urlPattern: `${app}/*`, requestStage: 'Response' }] });
}

/** Everything that a script on the page could read without asking a server. */
export function pockets(page) {
  return page.evaluate(async () => {
    const databases = (await indexedDB.databases?.()) ?? [];
    const cached = (await caches.keys()) ?? [];
    return {
      cookie: document.cookie,
      localStorage: JSON.stringify({ ...localStorage }),
      sessionStorage: JSON.stringify({ ...sessionStorage }),
      databases: JSON.stringify(databases),
      caches: JSON.stringify(cached),
      windowName: window.name,
      referrer: document.referrer,
      address: location.href,
      timings: JSON.stringify(performance.getEntries().map((entry) => entry.name)),
      page: document.documentElement.outerHTML,
    };
  });
}

/** What looks like a JWT, whoever issued it. */
const JWT = /eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}/;

/**
 * Where a value of `issued` (value → what it is) or any JWT occurs in `answers` and `pockets`, in words that do not repeat
 * it.
 * The one place where a token may stand is the `id_token_hint` of a redirect to `endSession`, which no page can read.
 */
export function leaks({ issued, answers, pockets: held, endSession }) {
  const found = [];
  const search = (text, place, any = true) => {
    for (const [value, what] of issued) {
      if (pieces(value).some((piece) => text.includes(piece))) found.push(`${what} in ${place}`);
    }
    if (any && JWT.test(text)) found.push(`a JWT in ${place}`);
  };
  for (const { method, url, type, status, headers, body, unread } of answers) {
    const place = `the answer to ${method} ${new URL(url).pathname} (${status})`;
    // What could not be looked at may hold anything.
    if (unread) found.push(`${unread}: ${place}`);
    search(body, `the body of ${place}`);
    for (const { name, value } of headers) {
      const hint = name.toLowerCase() === 'location' && type === 'Document' && withoutHint(value, endSession);
      // The network does not say who set a cookie: the provider's own may be JWTs.
      search(hint || value, `the header ${name} of ${place}`, type !== 'Cookies');
    }
  }
  for (const pocket of held) {
    for (const [name, text] of Object.entries(pocket)) search(text, name);
  }
  return found;
}

/** `location` without its hint when it leads to the provider's end-session endpoint. */
function withoutHint(location, endSession) {
  if (!endSession || !location.startsWith(`${endSession}?`)) return undefined;
  const url = new URL(location);
  url.searchParams.delete('id_token_hint');
  return url.href;
}

/** A JWT is also found by its payload or its signature alone. */
function pieces(value) {
  const parts = value.split('.');
  return parts.length === 3 ? [value, parts[1], parts[2]] : [value];
}
