import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'
import { MUTANTS, type Mutant } from './mutants.ts'

const ROOT = new URL('../../', import.meta.url)

/**
 * Breaks the engine in the way of a mutant, for this process; to be called before the engine is loaded.
 *
 * @throws when the place that it changes is not there, or not there once: the mutant must follow the engine
 */
export function patch(name: string): Mutant {
  const mutant = MUTANTS.find((known) => known.name === name)
  if (!mutant) throw new Error(`there is no mutant "${name}"`)
  const texts = new Map<string, string>()
  for (const { file, from, to } of mutant.changes) {
    const url = new URL(file, ROOT).href
    const text = texts.get(url) ?? readFileSync(fileURLToPath(url), 'utf8')
    const places = text.split(from).length - 1
    if (places !== 1)
      throw new Error(`the mutant "${name}" finds ${places} places in ${file}, and wants one: bring it up to date`)
    texts.set(
      url,
      text.replace(from, () => to),
    )
  }
  registerHooks({
    load(url, context, next) {
      const result = next(url, context)
      const source = texts.get(url)
      return source === undefined ? result : { ...result, source }
    },
  })
  return mutant
}
