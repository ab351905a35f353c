import { isUtf8 } from 'node:buffer'
import { join, resolve } from 'node:path'
import { MillraceError } from '../core/errors.ts'
import { inspect } from '../state/inspect.ts'

interface ListOptions {
  data: string
  limit?: string
  json?: boolean
}

/** Lists what was set aside, with its reason; also while a pipeline runs. */
export function listDeadLetters({ data, limit = '100', json = false }: ListOptions): void {
  const inspector = inspect(join(resolve(data), 'state.db'))
  try {
    const letters = inspector.deadLetters.list({ limit: Number(limit) })
    for (const { bytes, ...letter } of letters) {
      if (json) process.stdout.write(`${JSON.stringify({ ...letter, ...shown(bytes) })}\n`)
      else process.stdout.write(`${letter.id}  ${new Date(letter.at).toISOString()}  ${letter.where}  ${letter.code}  ${letter.source} at ${letter.position}  ${letter.reason}\n`)
    }
    if (!json) process.stdout.write(`${letters.length} of ${inspector.deadLetters.count()} dead letters\n`)
  } finally {
    inspector.close()
  }
}

/** Shows one dead letter whole. @throws MillraceError NOT_FOUND */
export function showDeadLetter(id: string, { data }: { data: string }): void {
  const inspector = inspect(join(resolve(data), 'state.db'))
  try {
    const letter = inspector.deadLetters.get(Number(id))
    if (!letter) throw new MillraceError('NOT_FOUND', `there is no dead letter ${id}: millrace dead-letters list shows what there is`)
    const { bytes, ...rest } = letter
    process.stdout.write(`${JSON.stringify({ ...rest, ...shown(bytes) }, null, 2)}\n`)
  } finally {
    inspector.close()
  }
}

function shown(bytes: Uint8Array): { text: string } | { base64: string } {
  return isUtf8(bytes) ? { text: Buffer.from(bytes).toString('utf8') } : { base64: Buffer.from(bytes).toString('base64') }
}
