import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A certificate for the loopback address that nobody but its maker vouches for. */
export interface Certificate {
  readonly certificateFile: string
  readonly keyFile: string
  /** What a client must be given as its authority. */
  readonly ca: string
}

/** Makes one in a folder; it is good for a day. */
export function makeCertificate(folder: string): Certificate {
  const keyFile = join(folder, 'server.key')
  const certificateFile = join(folder, 'server.crt')
  const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost'
  execFileSync(
    'openssl',
    // biome-ignore format: a command line
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1',
      '-subj', '/CN=localhost', '-addext', names, '-keyout', keyFile, '-out', certificateFile],
    { stdio: 'ignore' },
  )
  return { certificateFile, keyFile, ca: readFileSync(certificateFile, 'utf8') }
}
