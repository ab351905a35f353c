import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { made } from '../core/made.ts'
import type { Encoder, Outcome, RowMeta, Sink } from '../core/sink.ts'
import { rolledBack } from '../embedded/thread.ts'
import { type Message, sendKey } from './esp/message.ts'
import { openOutbox } from './esp/outbox.ts'

export interface EspOptions<T> {
  /** The event that the provider's template or campaign listens to. */
  event: string | ((row: T) => string)
  /** Whom it is for: an address, or the provider's id of a person. */
  recipient: (row: T) => string
  /** What the template may use, as a JSON object. @default none */
  properties?: (row: T, meta: RowMeta) => Record<string, unknown>
  /** What makes it the same message: one send a cause and recipient. @default the event and the record or timer it came from */
  cause?: (row: T) => string
  /** How long after its event time it is still worth sending. */
  expiresAfter: Duration
  /** What the sink is called in send keys, in the outbox and in messages. @default the name of its output in the pipeline */
  name?: string
}

/** Dates go no further. */
const LAST_MOMENT = 8_640_000_000_000_000

/**
 * Tells an email provider that something happened to a person, who may get a message for it: once for each cause.
 *
 * Every message has a send key of its own, made of pipeline, sink, recipient and cause: the same after a crash, in another
 * life, and even when the store was lost. A second message with the key of a first is not sent; if it says something else,
 * a warning names both.
 *
 * People are not reached unless the run is live: messages are captured in the outbox of the data directory, where each
 * is a file of JSON and a page to look at. A live run needs a provider, and none is in this version: it is refused with
 * STAND_IN_REFUSED.
 *
 * A message is expired when it would be delivered later than `expiresAfter` after its event time. A live run does not send
 * what has expired. The outbox captures everything, so that a run over the past shows all it would have said in its
 * day, and marks those with `"expired": true`.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(esp({ event: 'Order Confirmed', recipient: (e) => e.visitorId, cause: (e) => `order ${e.transactionId}`, expiresAfter: '1d' }))
 * ```
 */
export function esp<T>(options: EspOptions<T>): Sink<T> {
  const { event, recipient, expiresAfter, name } = options
  const where = `esp ${JSON.stringify(name ?? event)}`
  if (!isText(event) && typeof event !== 'function')
    throw wrong(where, 'event', 'a text or a function of the row', event)
  if (typeof recipient !== 'function') throw wrong(where, 'recipient', 'a function of the row', recipient)
  for (const option of ['properties', 'cause'] as const) {
    const given = options[option]
    if (given !== undefined && typeof given !== 'function') throw wrong(where, option, 'a function of the row', given)
  }
  if (name !== undefined && !isText(name)) throw wrong(where, 'name', 'a text', name)
  const lasts = milliseconds(expiresAfter, `${where}: expiresAfter`)

  const sink: Sink<T> = {
    kind: 'esp',
    guarantee: 'idempotent',
    touches: 'people',
    system: 'esp',
    dry: ({ pipeline, output }) => encoder(options, { pipeline, sink: name ?? output, lasts }),
    async open({ pipeline, output, dataDir, live, runtime, logger }) {
      const sink = name ?? output ?? 'esp'
      if (live) {
        throw new MillraceError(
          'STAND_IN_REFUSED',
          `esp "${sink}": a live run needs an email provider, and this version has none: run without --live to capture the messages in the outbox`,
        )
      }
      const outbox = await openOutbox({ dataDir, runtime, logger })
      return {
        identity: 'esp: outbox',
        standIn: `outbox in ${outbox.folder}`,
        limit: { rows: 1_000, bytes: 4_194_304 },
        encoder: () => encoder(options, { pipeline, sink, lasts }),
        async deliver({ head, body }, signal): Promise<Outcome> {
          if (signal.aborted) return { kind: 'notSent', reason: `esp "${sink}": given up before it was sent` }
          try {
            // The names of when it was staged: a send key was made of them.
            await outbox.capture({ ...(JSON.parse(head) as { pipeline: string; sink: string }), body })
            return { kind: 'applied' }
          } catch (error) {
            const reason = `esp "${sink}": ${messageOf(error)}`
            return rolledBack(error) ? { kind: 'rejected', retry: 'later', reason } : { kind: 'unknown', reason }
          }
        },
        close: () => outbox.close(),
      }
    },
  }
  return made(sink, options)
}

function encoder<T>(
  { event: eventOf, recipient: recipientOf, properties: propertiesOf, cause: causeOf }: EspOptions<T>,
  { pipeline, sink, lasts }: { pipeline: string; sink: string; lasts: number },
): Encoder<T> {
  const where = `esp "${sink}"`
  return {
    head: JSON.stringify({ format: 'message-1', pipeline, sink }),
    row(row, meta) {
      const event = text(typeof eventOf === 'function' ? eventOf(row) : eventOf, `${where}: event`)
      const recipient = text(recipientOf(row), `${where}: recipient`)
      const cause = causeOf ? text(causeOf(row), `${where}: cause`) : `${event}, ${meta.cause}`
      if (!(Math.abs(meta.time) + lasts <= LAST_MOMENT)) throw unfit(`${where}: the row's event time is no date`)
      const properties: unknown = propertiesOf ? propertiesOf(row, meta) : {}
      if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) {
        throw unfit(`${where}: properties must give an object, got ${shown(properties)}`)
      }
      const message: Message = {
        key: sendKey(pipeline, sink, recipient, cause),
        event,
        recipient,
        time: meta.time,
        expiresAt: meta.time + lasts,
        cause,
        properties: properties as Record<string, unknown>,
      }
      try {
        return `${JSON.stringify(message)}\n`
      } catch (thrown) {
        throw unfit(`${where}: properties must give JSON (${messageOf(thrown).split('\n')[0]})`)
      }
    },
  }
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.trim() !== ''

function text(value: unknown, what: string): string {
  if (isText(value)) return value
  throw unfit(`${what} must give a text, got ${typeof value === 'string' ? 'an empty one' : shown(value)}`)
}

const wrong = (where: string, option: string, wanted: string, came: unknown) =>
  new MillraceError('BAD_OPTION', `${where}: ${option} must be ${wanted}, got ${shown(came)}`)

const unfit = (message: string) => new MillraceError('NOT_JSON', message)
