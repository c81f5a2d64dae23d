// The protected API of the browser stories: it believes nobody, asks the provider about every opaque bearer, verifies every
// JWT, and says what it was sent, but never the token itself: only a short fingerprint, enough to tell one token from the
// next.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { once } from 'node:events';

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { close } from './provider.mjs';

/**
 * Starts the API on a free port of 127.0.0.1. `calls` grows with every request that it accepted, and `open` holds what
 * is open: event streams under `/api/events`, which say something every second, and WebSockets, which say everything
 * again. `audience` is what the API is called in tokens that are JWTs, and `keys` where the keys of their issuer are.
 */
export async function startApi({ issuer, audience, keys = `${issuer}/jwks` }) {
  const identify = judge({ issuer, audience, jwks: createRemoteJWKSet(new URL(keys)) });
  const calls = [];
  const open = new Set();
  const server = createServer((request, response) => {
    answer(request, response, identify, calls, open).catch((error) => send(response, 500, { error: error.message }));
  });
  server.on('upgrade', (request, socket) => {
    echo(request, socket, identify, open).catch(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, calls, open, stop: () => close(server) };
}

/** A function that tells the bearer of a request and whose it is, or why it is nobody's. */
function judge({ issuer, audience, jwks }) {
  return async ({ headers }) => {
    const bearer = /^Bearer (\S+)$/.exec(headers.authorization ?? '')?.[1];
    if (!bearer) return { error: 'no bearer' };
    if (bearer.split('.').length === 3) {
      if (!audience) return { error: 'no JWT is meant for this API' };
      const verified = await jwtVerify(bearer, jwks, { issuer, audience }).catch(({ message }) => ({ error: message }));
      return verified.error ? verified : { bearer, sub: verified.payload.sub };
    }
    const told = await fetch(`${issuer}/me`, { headers: { authorization: `Bearer ${bearer}` } });
    if (!told.ok) return { error: 'the provider does not know this bearer' };
    const { sub } = await told.json();
    return { bearer, sub };
  };
}

async function answer(request, response, identify, calls, open) {
  const { headers, method, url } = request;
  request.resume();
  const { bearer, sub, error } = await identify(request);
  if (error) return send(response, 401, { error });
  if (url === '/api/events') return events(response, sub, open);
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

/** An event stream that never ends by itself. */
function events(response, sub, open) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(`data: hello ${sub}\n\n`);
  const beat = setInterval(() => response.write(': still here\n\n'), 1_000);
  open.add(response);
  response.on('close', () => {
    clearInterval(beat);
    open.delete(response);
  });
}

/** A WebSocket (RFC 6455) as far as short texts go. */
async function echo(request, socket, identify, open) {
  const { error } = await identify(request);
  if (error) return socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n');
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash('sha1').update(key).digest('base64');
  const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'];
  socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'));
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  socket.on('error', () => socket.destroy());
  socket.on('end', () => socket.end());
  socket.on('data', (frame) => {
    const [kind, length] = [frame[0] & 15, frame[1] & 127];
    if (kind === 8) return socket.end(Buffer.from([0x88, 0]));
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
    return socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
}
