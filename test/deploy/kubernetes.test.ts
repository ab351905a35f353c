import { basename } from 'node:path'
import { expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { projectFiles, textOf } from '../support/project.ts'

const files = projectFiles('.yaml').filter((path) => path.startsWith('deploy/kubernetes/'))

/** The objects of a file. @throws when it is no YAML, or says a thing twice */
function objectsOf(text: string): any[] {
  return parseAllDocuments(text, { uniqueKeys: true }).map((document) => {
    if ('errors' in document && document.errors.length > 0) throw document.errors[0]
    return document.toJS()
  })
}

/** What is wrong with the workers of a file: empty when nothing is. */
function faults(objects: readonly any[]): string[] {
  const labels = objects.map(({ spec }) => spec.template?.metadata.labels).find(Boolean)
  return objects.flatMap(({ kind, apiVersion, metadata, spec }) => {
    const said = (fault: string) => `${kind} ${metadata?.name}: ${fault}`
    if (!apiVersion || !metadata?.name) return [said('it has no apiVersion or name')]
    const selects = Object.entries(spec.selector.matchLabels).every(([label, value]) => labels[label] === value)
    const wrong = selects ? [] : [said('it selects other pods than those of this file')]
    if (kind === 'PodDisruptionBudget') return wrong
    const pod = spec.template.spec
    const [container] = pod.containers
    const volumes = [...(pod.volumes ?? []), ...(spec.volumeClaimTemplates ?? [])].map((v) => v.name ?? v.metadata.name)
    const ports = container.ports.map(({ name }: any) => name)
    const probes = { startupProbe: '/ready', readinessProbe: '/ready', livenessProbe: '/live' }
    const grace = pod.terminationGracePeriodSeconds ?? 30
    return [
      ...wrong,
      ...Object.entries(probes).flatMap(([probe, path]) => {
        const { httpGet } = container[probe] ?? {}
        return httpGet?.path === path && ports.includes(httpGet.port) ? [] : [said(`${probe} does not ask for ${path}`)]
      }),
      ...container.volumeMounts.flatMap(({ name }: any) => (volumes.includes(name) ? [] : [said(`no volume ${name}`)])),
      ...(/:\d+\.\d+\.\d+$/.test(container.image) ? [] : [said('its image is not pinned to a version')]),
      ...(container.env.some(({ name, value }: any) => /PASSWORD|SECRET|TOKEN/.test(name) && value !== undefined)
        ? [said('a password is in the clear')]
        : []),
      ...(pod.securityContext?.runAsNonRoot && container.securityContext?.readOnlyRootFilesystem
        ? []
        : [said('it has rights that it does not need')]),
      ...(grace >= 30 ? [] : [said('it has no time to drain')]),
      ...(kind === 'StatefulSet' && spec.replicas !== 1 ? [said('state on a disk has one owner')] : []),
      ...(kind === 'Deployment' && !container.env.some(({ name }: any) => name === 'MILLRACE_STORE')
        ? [said('its workers share no state')]
        : []),
    ]
  })
}

test('there are examples', () => expect(files.map((path) => basename(path))).toEqual(['single.yaml', 'workers.yaml']))

test.each(files)('%s is whole, and runs workers as they should be run', (path) => {
  expect(faults(objectsOf(textOf(path)))).toEqual([])
})

test.each([
  ['workers.yaml', 'path: /live', 'path: /health', 'livenessProbe does not ask for /live'],
  ['workers.yaml', 'name: MILLRACE_STORE', 'name: MILLRACE_STORES', 'its workers share no state'],
  ['workers.yaml', 'name: CLICKHOUSE_USER', 'name: CLICKHOUSE_PASSWORD', 'a password is in the clear'],
  ['workers.yaml', 'millrace:0.1.0', 'millrace:latest', 'its image is not pinned to a version'],
  ['workers.yaml', 'terminationGracePeriodSeconds: 60', 'terminationGracePeriodSeconds: 5', 'it has no time to drain'],
  ['single.yaml', 'replicas: 1', 'replicas: 2', 'state on a disk has one owner'],
  ['single.yaml', 'metadata: { name: data }', 'metadata: { name: date }', 'no volume data'],
])('in %s, %s made into %s is found', (file, from, to, fault) => {
  const text = textOf(`deploy/kubernetes/${file}`)
  expect(text).toContain(from)
  expect(faults(objectsOf(text.replace(from, to)))).toContainEqual(expect.stringContaining(fault))
})

test('what is no YAML is found', () => {
  expect(() => objectsOf('a: 1\na: 2\n')).toThrow(/unique/)
  expect(() => objectsOf('a: [1\n')).toThrow()
})
