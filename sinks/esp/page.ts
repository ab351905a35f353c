/** HTML of the outbox: self-contained pages, readable in light and dark, without scripts. */

/** Characters that are not seen, or turn the order of what is: a text could pass for another one by them. */
const UNSEEN = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu

/** Text as it can stand in an element or in a quoted attribute. What cannot be seen is written as `\u202e`. */
export const escaped = (text: string): string =>
  text
    .replace(UNSEEN, (unseen) =>
      /[\t\n\r]/.test(unseen) ? unseen : `\\u${unseen.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

const LONG = new Intl.DateTimeFormat('en-GB', {
  weekday: 'short',
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZone: 'UTC',
})

/** A moment for people, in UTC: `Sun, 3 May 2015, 03:15:02 UTC`. */
export const moment = (time: number): string =>
  `<time datetime="${new Date(time).toISOString()}">${escaped(LONG.format(time))} UTC</time>`

const STYLE = `
:root{color-scheme:light dark;--page:#f4f4f1;--card:#fff;--ink:#1d1f23;--soft:#666b73;--line:#e3e3de;--mark:#0f6b5c;--tint:#e4f2ee;--warn:#8a4b00;--warn-tint:#fdf0dc}
@media(prefers-color-scheme:dark){:root{--page:#141517;--card:#1e2023;--ink:#e9e9e6;--soft:#9aa0a8;--line:#303338;--mark:#6fd3bf;--tint:#17332e;--warn:#f2b866;--warn-tint:#3a2a12}}
*{box-sizing:border-box}
body{margin:0;padding:40px 20px 64px;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:760px;margin:0 auto}
main.wide{max-width:1080px}
h1{font-size:28px;line-height:1.2;margin:10px 0 6px;overflow-wrap:anywhere}
h2{font-size:12px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);margin:0 0 14px}
p{margin:0 0 10px}
a{color:var(--mark)}
.to{font-size:17px;color:var(--soft);overflow-wrap:anywhere}
.to strong{color:var(--ink);font-weight:600}
.badge{display:inline-block;padding:2px 10px;border-radius:99px;background:var(--tint);color:var(--mark);font-size:12.5px;font-weight:600;margin-right:6px;white-space:nowrap}
.badge.late{background:var(--warn-tint);color:var(--warn)}
.note{background:var(--warn-tint);color:var(--warn);border-radius:10px;padding:11px 16px;margin:20px 0 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:22px 24px;margin-top:20px;overflow-x:auto}
dl{display:grid;grid-template-columns:minmax(90px,auto) 1fr;gap:9px 24px;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
dd>table{margin-top:-7px}dd>dl{padding-bottom:4px}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-weight:600;font-size:12.5px;color:var(--soft)}
th,td{padding:8px 14px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.when{white-space:nowrap;color:var(--soft);font-variant-numeric:tabular-nums}
ul{margin:0;padding-left:18px}
img{max-width:96px;max-height:96px;border-radius:8px;display:block;background:var(--line)}
code{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
.none{color:var(--soft)}
footer{color:var(--soft);font-size:13px;margin-top:22px}
@media(max-width:560px){dl{grid-template-columns:1fr;gap:2px}dd{margin-bottom:10px}}
`.trim()

/** A whole page. Nothing in it runs, and only images that a message names are loaded. */
export const page = (title: string, body: string, { wide = false }: { wide?: boolean } = {}): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src https: http: data:; style-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main${wide ? ' class="wide"' : ''}>
${body}
</main>
</body>
</html>
`
