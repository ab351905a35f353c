import { ERROR_CODES, type ErrorCode, MillraceError, messageOf } from '../core/errors.ts'

/** What a file system says, in the words of the data directory's owner. */
const SYSTEM_CODES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ENOSPC: ['DISK_FULL', 'there is no room left; nothing was lost: make room, and start again'],
  EDQUOT: ['DISK_FULL', 'the disk quota is used up; nothing was lost: make room, and start again'],
  EROFS: ['DATA_DIR_UNWRITABLE', 'the file system is read-only; choose another folder with --data'],
  EACCES: [
    'DATA_DIR_UNWRITABLE',
    'this user may not write there; change its owner, or choose another folder with --data',
  ],
  EPERM: [
    'DATA_DIR_UNWRITABLE',
    'this user may not write there; change its owner, or choose another folder with --data',
  ],
}

/**
 * Brings anything that was thrown into the one form that is shown. Errors of another copy of Millrace (a project's own,
 * beside a global one) count as Millrace's.
 */
export function asMillraceError(thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown
  if (thrown instanceof Error) {
    const { code, path } = thrown as Error & { code?: unknown; path?: unknown }
    if (thrown.name === 'MillraceError' && typeof code === 'string' && code in ERROR_CODES) {
      return new MillraceError(code as ErrorCode, thrown.message, { cause: thrown })
    }
    const known = SYSTEM_CODES[String(code)]
    if (known)
      return new MillraceError(known[0], `${path === undefined ? '' : `${path}: `}${known[1]}`, { cause: thrown })
  }
  return new MillraceError('INTERNAL', messageOf(thrown), { cause: thrown })
}

/** The documented exit code of a command that ends with this error. */
export function exitCodeOf(error: MillraceError): number {
  return ERROR_CODES[error.code].exit
}
