import { styleText } from 'node:util'

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'

/** A stream that text is written to, and what it can show. */
export interface Terminal {
  readonly isTTY: boolean
  /** Columns of a terminal; undefined when the text goes to a file or a pipe. */
  readonly width: number | undefined
  write(text: string): void
  /** Colours the text on a terminal, unless `NO_COLOR` is set. */
  style(style: Style, text: string): string
}

/** The terminal behind a stream of the process. */
export function terminal(stream: NodeJS.WriteStream): Terminal {
  return {
    isTTY: stream.isTTY === true,
    get width() {
      return stream.isTTY ? Math.max(40, stream.columns || 80) : undefined
    },
    write: (text) => void stream.write(text),
    // styleText looks at the stream, NO_COLOR and FORCE_COLOR by itself.
    style: (style, text) => styleText(style, text, { stream }),
  }
}

export const out = terminal(process.stdout)
export const err = terminal(process.stderr)

/**
 * Text that cannot move the cursor, change colours or hide: control characters, and those that turn the direction of
 * writing, are written as escapes. What is shown comes from events, and anybody can send an event.
 */
export function plain(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (character) => {
    if (character === '\n') return '\\n'
    if (character === '\t') return '\\t'
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

/** Columns that a text takes on a terminal: two for wide characters and emoji, none for marks that combine. */
export function widthOf(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let width = 0
  for (const { segment } of graphemes.segment(text)) width += WIDE.test(segment) ? 2 : 1
  return width
}

/** The text cut to so many columns, with an ellipsis when something is cut. */
export function fit(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  if (width <= 1) return '…'.slice(0, width)
  let cut = ''
  let used = 0
  for (const { segment } of graphemes.segment(text)) {
    const next = WIDE.test(segment) ? 2 : 1
    if (used + next > width - 1) break
    cut += segment
    used += next
  }
  return `${cut}…`
}

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
const WIDE =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}])/u
