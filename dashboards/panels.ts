/** The data source that `deploy/grafana/datasources.yml` provides. */
export const DATASOURCE = { type: 'prometheus', uid: 'prometheus' } as const

/** A panel without its place. */
export interface Panel {
  readonly type: 'row' | 'stat' | 'timeseries'
  readonly title: string
  readonly [more: string]: unknown
}

/** A place of its own for a group of panels. */
export const row = (title: string): Panel => ({ type: 'row', title, collapsed: false, panels: [] })

/** One number that is red from `alarmFrom` on. */
export function stat(
  title: string,
  description: string,
  { expr, unit = 'short', alarmFrom }: { expr: string; unit?: string; alarmFrom?: number },
): Panel {
  const steps = [
    { color: 'green', value: null },
    ...(alarmFrom === undefined ? [] : [{ color: 'red', value: alarmFrom }]),
  ]
  return {
    type: 'stat',
    title,
    description,
    datasource: DATASOURCE,
    targets: [target(expr, 0)],
    fieldConfig: { defaults: { unit, thresholds: { mode: 'absolute', steps } }, overrides: [] },
    options: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area' },
  }
}

/** Lines over time, each an expression with the legend of its series. */
export function timeseries(
  title: string,
  description: string,
  { unit, lines }: { unit: string; lines: readonly (readonly [expr: string, legend: string])[] },
): Panel {
  return {
    type: 'timeseries',
    title,
    description,
    datasource: DATASOURCE,
    targets: lines.map(([expr, legend], place) => ({ ...target(expr, place), legendFormat: legend })),
    fieldConfig: { defaults: { unit, min: 0, custom: { fillOpacity: 10, showPoints: 'never' } }, overrides: [] },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  }
}

const target = (expr: string, place: number) => ({
  refId: String.fromCharCode('A'.charCodeAt(0) + place),
  datasource: DATASOURCE,
  expr: expr.replaceAll('$pipelines', 'pipeline=~"$pipeline"'),
})

const WIDTH = 24
const SIZES = { row: [WIDTH, 1], stat: [6, 5], timeseries: [8, 8] } as const

/** Gives each panel its id and place: from left to right, a line below when there is no room. */
export function laidOut(panels: readonly Panel[]): readonly unknown[] {
  let [x, y, tallest] = [0, 0, 0]
  return panels.map((panel, place) => {
    const [w, h] = SIZES[panel.type]
    if (x + w > WIDTH) {
      x = 0
      y += tallest
      tallest = 0
    }
    const gridPos = { x, y, w, h }
    x += w
    tallest = Math.max(tallest, h)
    return { id: place + 1, ...panel, gridPos }
  })
}
