/** A value on its line: who it is about, what it is, and when, in minutes. */
export interface Marble {
  readonly key: string
  readonly text: string
  readonly minute: number
}

export interface Line {
  readonly name: string
  readonly marbles: readonly Marble[]
}

export interface Diagram {
  readonly title: string
  readonly inputs: readonly Line[]
  /** The operator as it is written. */
  readonly call: string
  readonly outputs: readonly Line[]
}

const WIDTH = 760
const LEFT = 96
const RIGHT = 40
const ROW = 52
const HEIGHT = 28
/** A letter of the monospaced face, in pixels. */
const LETTER = 7.3
const COLOURS = ['#2f6fb0', '#b4552d', '#3f8a54', '#8a55a8', '#8a7a1f', '#6b7280']

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const widthOf = (text: string) => Math.max(HEIGHT, Math.round(text.length * LETTER) + 14)

/** What is written in a box, broken where a space is. */
function wrapped(text: string, letters: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + word.length < letters) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

const shownTime = (minute: number) =>
  minute >= 60 && minute % 60 === 0
    ? `${minute / 60}h`
    : minute > 60
      ? `${Math.floor(minute / 60)}h${minute % 60}`
      : `${minute}m`

/** A marble diagram that stands alone: one line a stream, event time to the right, a colour a key. */
export function marbleSvg({ title, inputs, call, outputs }: Diagram): string {
  const all = [...inputs, ...outputs].flatMap(({ marbles }) => marbles)
  const keys = [...new Set(all.map(({ key }) => key))]
  const end = Math.max(...all.map(({ minute }) => minute), 1)
  const x = (minute: number) => Math.round(LEFT + 20 + ((WIDTH - LEFT - RIGHT - 60) * minute) / end)
  const code = wrapped(call, 92)
  const box = code.length * 18 + 14
  const parts: string[] = []
  /** Draws a line at its height, and gives the height of the next. */
  const draw = ({ name, marbles }: Line, y: number): number => {
    parts.push(
      `<text class="name" x="12" y="${y + 4}">${escaped(name)}</text>`,
      `<path class="line" d="M${LEFT} ${y}H${WIDTH - RIGHT}m-7 -4l7 4l-7 4"/>`,
    )
    // marbles at one place stand one above another, so that each can be read
    const placed: { from: number; to: number; level: number }[] = []
    for (const { key, text, minute } of marbles) {
      const width = widthOf(text)
      const from = x(minute) - width / 2
      const over = placed.filter((other) => from < other.to + 2 && from + width > other.from - 2)
      const level = over.length === 0 ? 0 : Math.max(...over.map((other) => other.level)) + 1
      placed.push({ from, to: from + width, level })
      const top = y - HEIGHT / 2 + level * (HEIGHT + 2)
      parts.push(
        `<rect x="${from}" y="${top}" width="${width}" height="${HEIGHT}" rx="14" fill="${COLOURS[keys.indexOf(key) % COLOURS.length]}" class="marble"/>`,
        `<text class="value" x="${x(minute)}" y="${top + 18}">${escaped(text)}</text>`,
      )
    }
    return y + ROW + (HEIGHT + 2) * Math.max(0, ...placed.map(({ level }) => level))
  }
  let y = 34
  for (const line of inputs) y = draw(line, y)
  const top = y - 18
  parts.push(`<rect class="box" x="12" y="${top}" width="${WIDTH - 24}" height="${box}" rx="6"/>`)
  for (const [i, text] of code.entries()) {
    parts.push(`<text class="code" x="${WIDTH / 2}" y="${top + 22 + i * 18}">${escaped(text)}</text>`)
  }
  y = top + box + 36
  for (const line of outputs) y = draw(line, y)
  if (keys.length > 1) {
    for (const [i, key] of keys.entries()) {
      const at = 18 + i * 34
      parts.push(
        `<circle cx="${at}" cy="${y - 10}" r="5" fill="${COLOURS[i % COLOURS.length]}"/>`,
        `<text class="name" x="${at + 9}" y="${y - 6}">${escaped(key)}</text>`,
      )
    }
  }
  // what is given at the last millisecond of a window stands at its end
  for (const minute of [...new Set(all.map((marble) => Math.round(marble.minute)))]
    .sort((a, b) => a - b)
    .filter(apart(x))) {
    parts.push(`<text class="time" x="${x(minute)}" y="${y - 6}">${shownTime(minute)}</text>`)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + 8}" role="img" aria-label="${escaped(title)}">
<style>
text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}.name,.time{font-size:12px;fill:#59636e}.time,.code,.value{text-anchor:middle}
.value{fill:#fff;font-size:12px}.line{stroke:#818b98;fill:none}.box{fill:#f6f8fa;stroke:#d1d9e0}.marble{stroke:#fff;stroke-width:1.5}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.value{fill:#fff}.name,.time{fill:#9198a1}.box{fill:#151b23;stroke:#3d444d}.marble{stroke:#0d1117}}
</style>
${parts.join('\n')}
</svg>
`
}

/** Leaves away what would be written over its neighbour. */
function apart(x: (minute: number) => number): (minute: number) => boolean {
  let last = Number.NEGATIVE_INFINITY
  return (minute) => {
    if (x(minute) - last < 34) return false
    last = x(minute)
    return true
  }
}
