import { DATASOURCE, laidOut, type Panel, row, stat, timeseries } from './panels.ts'

/**
 * The dashboard of Grafana for all pipelines, as `npm run dashboards` writes it to `overview.json`. Read it from the top:
 * is anything wrong, does it keep up, where does it wait, what was set aside.
 */
export function overview() {
  const panels: readonly Panel[] = [
    row('Is anything wrong?'),
    stat('Sinks that do not answer', 'Sinks whose last attempt, in any lane, was not applied.', {
      expr: 'count(millrace_sink_ready{$pipelines} == 0) or vector(0)',
      alarmFrom: 1,
    }),
    stat('Oldest staged batch', 'How long the oldest output that is committed has waited for its sink.', {
      expr: 'max(millrace_staged_age_seconds{$pipelines})',
      unit: 's',
      alarmFrom: 300,
    }),
    stat('Set aside in the last hour', 'Dead letters: records, timers and rows that could not be used.', {
      expr: 'sum(increase(millrace_dead_letters_total{$pipelines}[1h]))',
      alarmFrom: 1,
    }),
    stat('Workers', 'Processes that Prometheus reaches.', { expr: 'sum(up{job="millrace"})', unit: 'short' }),

    row('Does it keep up?'),
    timeseries('Records read', 'Taken from each source, a second.', {
      unit: 'rps',
      lines: [['sum by (pipeline, source) (rate(millrace_source_records_read_total{$pipelines}[1m]))', '{{source}}']],
    }),
    timeseries('Rows delivered', 'That a sink has answered for, a second.', {
      unit: 'rps',
      lines: [['sum by (pipeline, sink) (rate(millrace_rows_delivered_total{$pipelines}[1m]))', '{{sink}}']],
    }),
    timeseries('Lag', 'What is left to read of each source.', {
      unit: 'short',
      lines: [['sum by (pipeline, source, unit) (millrace_source_lag{$pipelines})', '{{source}} ({{unit}})']],
    }),
    timeseries('Freshness', 'Now minus event time, when a sink had answered.', {
      unit: 's',
      lines: [['max by (pipeline, sink, quantile) (millrace_freshness_seconds{$pipelines})', '{{sink}} p{{quantile}}']],
    }),
    timeseries('Latency', "From a record's arrival to the sink's answer.", {
      unit: 's',
      lines: [['max by (pipeline, sink, quantile) (millrace_latency_seconds{$pipelines})', '{{sink}} p{{quantile}}']],
    }),

    row('Where does it wait?'),
    timeseries('Staged bytes', 'Outputs that are committed and not delivered.', {
      unit: 'bytes',
      lines: [['sum by (pipeline, sink) (millrace_staged_bytes{$pipelines})', '{{sink}}']],
    }),
    timeseries('Oldest staged batch by sink', 'It grows while a sink does not take what it is sent.', {
      unit: 's',
      lines: [['max by (pipeline, sink) (millrace_staged_age_seconds{$pipelines})', '{{sink}}']],
    }),
    timeseries('Attempts to deliver, by how they ended', 'Anything but `applied` is sent again, or set aside.', {
      unit: 'ops',
      lines: [
        [
          'sum by (pipeline, sink, outcome) (rate(millrace_delivery_attempts_total{$pipelines}[1m]))',
          '{{sink}} {{outcome}}',
        ],
      ],
    }),
    timeseries('Sources that are held back', '1 while nothing is taken because a lane is full.', {
      unit: 'short',
      lines: [['max by (pipeline, source) (millrace_source_paused{$pipelines})', '{{source}}']],
    }),
    timeseries('Partitions', 'That each worker works on.', {
      unit: 'short',
      lines: [
        ['sum by (instance, pipeline, source) (millrace_source_partitions{$pipelines})', '{{source}} {{instance}}'],
      ],
    }),
    timeseries('Epochs', 'Commits a second.', {
      unit: 'ops',
      lines: [['sum by (pipeline) (rate(millrace_epochs_total{$pipelines}[1m]))', '{{pipeline}}']],
    }),

    row('What was set aside?'),
    timeseries('Dead letters', 'A second, all causes; `millrace dead-letters list` says which.', {
      unit: 'ops',
      lines: [['sum by (pipeline) (rate(millrace_dead_letters_total{$pipelines}[5m]))', '{{pipeline}}']],
    }),
    timeseries('Rows refused', 'That a sink refused for good, a second.', {
      unit: 'ops',
      lines: [['sum by (pipeline, sink) (rate(millrace_rows_rejected_total{$pipelines}[5m]))', '{{sink}}']],
    }),
    timeseries('Repeats and latecomers', 'Dropped by `dedup`; come too late for an operator.', {
      unit: 'ops',
      lines: [
        ['sum by (pipeline) (rate(millrace_duplicates_total{$pipelines}[5m]))', 'repeats'],
        ['sum by (pipeline) (rate(millrace_late_total{$pipelines}[5m]))', 'late'],
      ],
    }),
  ]
  return {
    uid: 'millrace-overview',
    title: 'Millrace',
    tags: ['millrace'],
    schemaVersion: 39,
    editable: false,
    graphTooltip: 1,
    refresh: '10s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'utc',
    templating: {
      list: [
        {
          name: 'pipeline',
          label: 'Pipeline',
          type: 'query',
          datasource: DATASOURCE,
          query: { query: 'label_values(millrace_records_read_total, pipeline)', refId: 'pipelines' },
          refresh: 2,
          multi: true,
          includeAll: true,
          allValue: '.*',
          current: { text: 'All', value: '$__all' },
        },
      ],
    },
    panels: laidOut(panels),
  }
}
