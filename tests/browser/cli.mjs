// A command line client as anybody writes one with a published library: it knows the address of a site, asks there where
// to log in, follows the device flow (RFC 8628), and calls the API with the token that it got.
//
//   node cli.mjs SITE [RESOURCE]
//
// RESOURCE is whom the token is for (RFC 8707), if not for the API of the site.

import * as oidc from 'openid-client';

const [site, resource] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const begin = await fetch(`${site}/login/start`, { method: 'POST', headers: { 'user-agent': 'the-cli/1.0' } });
const start = await begin.json();
tell({ status: begin.status, type: begin.headers.get('content-type'), start });

// Providers of tests speak plain http on loopback.
const execute = new URL(start.issuer).protocol === 'http:' ? [oidc.allowInsecureRequests] : [];
const provider = await oidc.discovery(new URL(start.issuer), start.client_id, undefined, oidc.None(), { execute });
const { device_authorization_endpoint: endpoint } = provider.serverMetadata();
const device = await oidc.initiateDeviceAuthorization(provider, {
  scope: 'openid profile email',
  ...(resource && { resource }),
});
tell({ open: device.verification_uri_complete ?? device.verification_uri, code: device.user_code, endpoint });
const tokens = await oidc.pollDeviceAuthorizationGrant(provider, device);

const call = new URL(`${site}/api/hello?from=the+cli`);
try {
  const answer = await oidc.fetchProtectedResource(provider, tokens.access_token, call, 'GET');
  tell({ status: answer.status, body: await answer.json() });
} catch (error) {
  // The library reads `WWW-Authenticate` by the letter of the RFC.
  if (!(error instanceof oidc.WWWAuthenticateChallengeError)) throw error;
  tell({ status: error.status, challenges: error.cause });
}
