// How a page of the certified provider looks.

export function page(title, body) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${title}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:12vh auto;background:#f3eee4}
input,button{font:inherit;padding:.4rem .8rem}</style>
<h1>${title}</h1>${body}</html>`;
}

export function escape(value) {
  return String(value).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
