import { MillraceError } from '../core/errors.ts'

/** Error codes of the protocol that are told apart here (https://kafka.apache.org/protocol#protocol_error_codes). */
export const ERROR = {
  OFFSET_OUT_OF_RANGE: 1,
  UNKNOWN_TOPIC_OR_PARTITION: 3,
  LEADER_NOT_AVAILABLE: 5,
  NOT_LEADER_OR_FOLLOWER: 6,
  REQUEST_TIMED_OUT: 7,
  MESSAGE_TOO_LARGE: 10,
  COORDINATOR_LOAD_IN_PROGRESS: 14,
  COORDINATOR_NOT_AVAILABLE: 15,
  NOT_COORDINATOR: 16,
  RECORD_LIST_TOO_LARGE: 18,
  NOT_ENOUGH_REPLICAS: 19,
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: 20,
  ILLEGAL_GENERATION: 22,
  UNKNOWN_MEMBER_ID: 25,
  REBALANCE_IN_PROGRESS: 27,
  INVALID_TIMESTAMP: 32,
  TOPIC_ALREADY_EXISTS: 36,
  OUT_OF_ORDER_SEQUENCE_NUMBER: 45,
  DUPLICATE_SEQUENCE_NUMBER: 46,
  INVALID_PRODUCER_EPOCH: 47,
  UNKNOWN_PRODUCER_ID: 59,
  MEMBER_ID_REQUIRED: 79,
  INVALID_RECORD: 87,
} as const

const NAMES: Readonly<Record<number, string>> = {
  [-1]: 'UNKNOWN_SERVER_ERROR',
  ...Object.fromEntries(Object.entries(ERROR).map(([name, code]) => [code, name])),
  2: 'CORRUPT_MESSAGE',
  8: 'BROKER_NOT_AVAILABLE',
  9: 'REPLICA_NOT_AVAILABLE',
  13: 'NETWORK_EXCEPTION',
  17: 'INVALID_TOPIC_EXCEPTION',
  23: 'INCONSISTENT_GROUP_PROTOCOL',
  24: 'INVALID_GROUP_ID',
  26: 'INVALID_SESSION_TIMEOUT',
  29: 'TOPIC_AUTHORIZATION_FAILED',
  30: 'GROUP_AUTHORIZATION_FAILED',
  31: 'CLUSTER_AUTHORIZATION_FAILED',
  35: 'UNSUPPORTED_VERSION',
  37: 'INVALID_PARTITIONS',
  38: 'INVALID_REPLICATION_FACTOR',
  40: 'INVALID_CONFIG',
  44: 'POLICY_VIOLATION',
  56: 'KAFKA_STORAGE_ERROR',
  74: 'FENCED_LEADER_EPOCH',
  75: 'UNKNOWN_LEADER_EPOCH',
  76: 'UNSUPPORTED_COMPRESSION_TYPE',
  78: 'OFFSET_NOT_AVAILABLE',
  81: 'GROUP_MAX_SIZE_REACHED',
  89: 'THROTTLING_QUOTA_EXCEEDED',
}

/** What no later try mends: rights, names and settings. */
const FINAL = new Set([17, 23, 24, 26, 29, 30, 31, 35, 37, 38, 40, 44, 76, 81])

/** The protocol's name of an error code. */
export const errorName = (code: number): string => NAMES[code] ?? `error ${code}`

/** A broker's refusal as an error: what was asked, and its answer. */
export function refusal(where: string, code: number, message?: string | null): MillraceError {
  return new MillraceError(
    'SOURCE_FAILED',
    `${where}: the broker answers ${errorName(code)}${message ? ` (${message})` : ''}`,
    {
      retriable: !FINAL.has(code),
    },
  )
}

/** A broker that could not be reached: nothing was sent. */
export class NotConnected extends Error {
  override readonly name = 'NotConnected'
  /** No later try mends it: the broker is there, and refuses who comes. */
  readonly final: boolean

  constructor(message: string, options: { cause?: unknown; final?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.final = options.final ?? false
  }
}

/** Whether a connection failed because of a certificate: no later try mends that. */
export function isCertificate(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  if (typeof code === 'string' && /CERT|UNABLE_TO_VERIFY/.test(code)) return true
  return cause !== undefined && isCertificate(cause)
}
