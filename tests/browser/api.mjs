// The protected API of the browser stories: it believes nobody, asks the provider about every bearer, and says what it
// was sent, but never the token itself: only a short fingerprint, enough to tell one token from the next.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { once } from 'node:events';

import { close } from './provider.mjs';

/** Starts the API on a free port of 127.0.0.1; `calls` grows with every request that it accepted. */
export async function startApi({ issuer }) {
  const calls = [];
  const server = createServer((request, response) => {
    answer(request, response, issuer, calls).catch((error) => send(response, 500, { error: error.message }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, calls, close: () => close(server) };
}

async function answer(request, response, issuer, calls) {
  const { headers, method, url } = request;
  request.resume();
  const bearer = /^Bearer (\S+)$/.exec(headers.authorization ?? '')?.[1];
  if (!bearer) return send(response, 401, { error: 'no bearer' });
  const told = await fetch(`${issuer}/me`, { headers: { authorization: `Bearer ${bearer}` } });
  if (!told.ok) return send(response, 401, { error: 'the provider does not know this bearer' });
  const { sub } = await told.json();
  const call = {
    method,
    path: url,
    sub,
    token: createHash('sha256').update(bearer).digest('hex').slice(0, 12),
    cookies: (headers.cookie ?? '').split(';').map((pair) => pair.split('=')[0].trim()).filter(Boolean),
  };
  calls.push(call);
  return send(response, 200, call);
}

function send(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
