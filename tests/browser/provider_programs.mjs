// What the certified provider has for programs that are no browsers: a public client for the device flow, registration
// for strangers, access tokens for one API each, and the pages where a person lets a program in.

import { errors } from 'oidc-provider';

import { escape, page } from './provider_pages.mjs';

export const CLI_ID = 'cli';

/**
 * The clients and features, for `resources`: the APIs that tokens can be for. A token of the CLI is for the first, if it
 * names none itself.
 */
export function forPrograms(resources) {
  if (resources.length === 0) return { clients: [], features: {} };
  return {
    clients: [
      {
        client_id: CLI_ID,
        client_name: 'The command line client',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    features: {
      deviceFlow: {
        enabled: true,
        userCodeInputSource: (ctx, form, _out, error) => show(ctx, 'Which device?', form, 'op.deviceInputForm', error),
        userCodeConfirmSource: (ctx, form, client, _device, code) =>
          show(ctx, `Let ${escape(client.clientName)} in?`, `<p><code>${escape(code)}</code></p>${form}`, 'op.deviceConfirmForm'),
        successSource: (ctx) => {
          ctx.type = 'html';
          ctx.body = page('The program is signed in', '<p>You can close this window.</p>');
        },
      },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // The web client's tokens are opaque, and for the userinfo endpoint.
        defaultResource: (_ctx, client, several) => several ?? (client.clientId === CLI_ID ? resources[0] : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => {
          if (!resources.includes(resource)) throw new errors.InvalidTarget();
          return { scope: '', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
        },
      },
    },
  };
}

function show(ctx, title, body, form, error) {
  const trouble = error ? `<p>${escape(error.error ?? error.message)}</p>` : '';
  ctx.type = 'html';
  ctx.body = page(title, `${trouble}${body}<p><button form="${form}">Continue</button></p>`);
}
