import { createHash } from 'node:crypto'

/** What a message to a person is, as it is staged: one line of JSON. */
export interface Message {
  /** The same for the same cause in every life, so that nobody gets one thing twice: 32 hexadecimal digits. */
  readonly key: string
  /** What is sent: the name that the provider's template or campaign listens to. */
  readonly event: string
  /** Whom it is for: an address, or the provider's id of a person. */
  readonly recipient: string
  /** When it was caused, epoch milliseconds of event time. */
  readonly time: number
  /** From then on it is no longer worth sending, epoch milliseconds. */
  readonly expiresAt: number
  /** What caused it: a record's place, a timer, or what the pipeline's author said. */
  readonly cause: string
  readonly properties: Readonly<Record<string, unknown>>
}

/** A message that was captured instead of sent: a `.json` file of the outbox. */
export interface CapturedMessage extends Message {
  readonly pipeline: string
  readonly sink: string
  /** Epoch milliseconds. */
  readonly capturedAt: number
  /** A live run would not have sent it: it was past its expiry when it was its turn. */
  readonly expired: boolean
}

/** The send key of engine rule 14. */
export function sendKey(pipeline: string, sink: string, recipient: string, cause: string): string {
  const parts = JSON.stringify([pipeline, sink, recipient, cause])
  return createHash('sha256').update(parts).digest('hex').slice(0, 32)
}

/** Where in the outbox a message is, without the ending: `emails/2015-05-03/031502-0f3a62c4d5e6f708`. */
export function pathOf({ sink, time, key }: { sink: string; time: number; key: string }): string {
  const folder = sink.replace(/[^\w.-]+/g, '-').replace(/^\.+/, '') || 'sink'
  const [day = '', clock = ''] = new Date(time).toISOString().split('T')
  return `${folder}/${day}/${clock.slice(0, 8).replaceAll(':', '')}-${key.slice(0, 16)}`
}
