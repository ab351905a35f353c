import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { parse } from 'yaml'
import { dashboards } from '../../dashboards/dashboards.ts'
import { overview } from '../../dashboards/overview.ts'
import { type Place, place } from '../support/command.ts'
import { ROOT, textOf } from '../support/project.ts'
import { type ChildServer, freePort, startServer } from '../support/servers/child-server.ts'
import { need } from '../support/servers/need.ts'

const ALERTS = parse(textOf('deploy/alerts.yml')) as { groups: { rules: { alert: string; expr: string }[] }[] }
const alerts = ALERTS.groups.flatMap(({ rules }) => rules)
const panels = overview().panels as { title: string; targets?: { expr: string; legendFormat?: string }[] }[]
const lines = panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat = '' }) => ({
    title,
    expr: expr.replaceAll('"$pipeline"', '".*"'),
    labels: [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]!),
  })),
)

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + 30_000; ; await sleep(50)) {
    const is = await what()
    if (is !== undefined) return is
    if (Date.now() > end) throw new Error(`not so: ${what}`)
  }
}

/** A shop that goes on for ever, with repeats, latecomers and broken records, and a sink that takes everything. */
const SHOP = `import { pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { fromShop } from 'millrace/sources'
import { z } from 'zod'
const Event = z.object({ eventId: z.string(), visitorId: z.string(), occurredAt: z.int().positive() })
const events = fromShop({
  seed: 1, rate: 500, events: 1_000_000,
  schema: Event, key: (e) => e.visitorId, time: (e) => e.occurredAt, lateness: '1m',
})
export const shop = pipeline('shop', {
  rows: events.pipe(dedup({ by: (e) => e.eventId, within: '24h' })).to(file({ path: 'rows.jsonl' })),
})
`

describe('what a worker measures', () => {
  let here: Place
  let child: ReturnType<Place['start']>
  let address: URL
  beforeAll(async () => {
    here = place()
    here.write('shop.ts', SHOP)
    child = here.start('run', 'shop.ts', '--metrics', '0')
    let log = ''
    child.stderr!.on('data', (data) => {
      log += data
    })
    address = new URL(await until(async () => /http:\/\/[\d.:]+\/metrics/.exec(log)?.[0]))
  })
  afterAll(async () => {
    child.kill('SIGTERM')
    await child.ended
    here.remove()
  })

  test('is what the dashboards and alerts ask for', async () => {
    const metrics = await until(async () => {
      const text = await (await fetch(address)).text()
      return /millrace_freshness_seconds\{/.test(text) ? text : undefined
    })
    const measured = new Set([...metrics.matchAll(/^# TYPE (\w+)/gm)].map((match) => match[1]!))
    const unknown = (text: string) =>
      [...text.matchAll(/\bmillrace_\w+/g)].map(([name]) => name).filter((name) => !measured.has(name))
    expect(alerts.length).toBeGreaterThan(5)
    expect(lines.length).toBeGreaterThan(12)
    for (const { title, expr } of lines) expect(unknown(expr), title).toEqual([])
    for (const { alert, expr } of alerts) expect(unknown(expr), alert).toEqual([])
    expect(unknown('rate(millrace_records_reads_total[1m])')).toEqual(['millrace_records_reads_total'])
  })

  need('prometheus')('a real Prometheus that scrapes it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-prometheus-'))
    let server: ChildServer
    let url: string
    beforeAll(async () => {
      const settings = parse(textOf('deploy/prometheus.yml'))
      cpSync(join(ROOT, 'deploy/alerts.yml'), join(folder, 'alerts.yml'))
      settings.global.scrape_interval = '500ms'
      settings.scrape_configs = [{ job_name: 'millrace', static_configs: [{ targets: [address.host] }] }]
      writeFileSync(join(folder, 'prometheus.yml'), JSON.stringify(settings))
      const port = await freePort()
      url = `http://127.0.0.1:${port}`
      server = await startServer(
        'prometheus',
        [
          `--config.file=${folder}/prometheus.yml`,
          `--storage.tsdb.path=${folder}/data`,
          `--web.listen-address=127.0.0.1:${port}`,
        ],
        { ready: /Server is ready to receive web requests/, cwd: folder },
      )
    })
    afterAll(async () => {
      await server.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    })

    async function query(expr: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
      const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expr)}`)
      const { status, data, error } = (await response.json()) as any
      if (status !== 'success') throw new Error(`${expr}: ${error}`)
      return data.result
    }

    it.each(lines)('has data for "$title": $expr', async ({ expr, labels }) => {
      const result = await until(async () => {
        const data = await query(expr)
        return data.length > 0 && data.every(({ value }) => value[1] !== 'NaN') ? data : undefined
      })
      for (const { metric } of result) expect(Object.keys(metric)).toEqual(expect.arrayContaining(labels))
    })

    it('evaluates each alert, and none fires', async () => {
      for (const { expr } of alerts) await query(expr)
      await expect(query('sum by (')).rejects.toThrow('parse error')
      const { data } = (await (await fetch(`${url}/api/v1/rules`)).json()) as any
      const rules = data.groups.flatMap((group: any) => group.rules)
      expect(rules.map(({ name }: any) => name)).toEqual(alerts.map(({ alert }) => alert))
      expect(rules.filter(({ state }: any) => state === 'firing').map(({ name }: any) => name)).not.toContain(
        'MillraceStuck',
      )
    })
  })
})

test.each([...dashboards()])('dashboards/%s is what its code makes', (name, text) => {
  expect(readFileSync(join(ROOT, 'dashboards', name), 'utf8'), '`npm run dashboards` brings it up to date').toBe(text)
})

test('the page on production says where to look for each alert, and names no file that is not there', () => {
  const page = textOf('docs/production.md')
  const named = [...page.matchAll(/^\| (Millrace\w+) \|/gm)].map((match) => match[1])
  expect(named).toEqual(alerts.map(({ alert }) => alert))
  for (const [, path] of page.matchAll(/\]\(([^):]+)\)/g))
    expect(existsSync(join(ROOT, 'docs', path!)), path).toBe(true)
})

test('no two panels lie on each other, and each says what it shows', () => {
  const taken = new Set<string>()
  for (const { title, type, description, gridPos } of overview().panels as any[]) {
    if (type !== 'row') expect(description, title).toMatch(/\.$/)
    expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken, title).not.toContain(`${x} ${y}`)
        taken.add(`${x} ${y}`)
      }
  }
})

need('prometheus')('promtool', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-promtool-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const promtool = (...args: string[]) =>
    promisify(execFile)('promtool', args, { cwd: folder }).then(
      () => '',
      ({ stdout, stderr }) => `${stdout}${stderr}` || 'failed',
    )
  beforeAll(() => cpSync(join(ROOT, 'deploy'), folder, { recursive: true }))

  it('takes the settings of Prometheus and the rules', async () => {
    expect(await promtool('check', 'config', 'prometheus.yml')).toBe('')
    writeFileSync(join(folder, 'wrong.yml'), textOf('deploy/prometheus.yml').replace('scrape_configs', 'scrape_config'))
    expect(await promtool('check', 'config', 'wrong.yml')).toContain('scrape_config')
  })

  it('sees each alert fire when it must, and none when all is well', async () => {
    expect(await promtool('test', 'rules', 'alerts.test.yml')).toBe('')
  })

  it.each(alerts)('misses $alert when its rule is wrong', async ({ expr }) => {
    const rules = JSON.parse(JSON.stringify(ALERTS)) as typeof ALERTS
    for (const rule of rules.groups[0]!.rules) if (rule.expr === expr) rule.expr = 'vector(1) == 2'
    writeFileSync(join(folder, 'alerts.yml'), JSON.stringify(rules))
    expect(await promtool('test', 'rules', 'alerts.test.yml')).toContain('FAILED')
  })
})
