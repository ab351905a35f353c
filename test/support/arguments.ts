import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'

/** The options of a command of the tests; one that it does not know, or an argument, ends it with a message. */
export function options<const O extends ParseArgsOptionsConfig>(known: O) {
  try {
    return parseArgs({ options: known, strict: true }).values
  } catch (error) {
    return end(`${(error as Error).message.split('. ')[0]}. It takes --${Object.keys(known).join(', --')}`)
  }
}

/** The whole number that an option gives; one that it is not ends the command with a message. */
export function whole(name: string, text: string, least: number): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && Number.isSafeInteger(number)) return number
  return end(`--${name} must be a whole number from ${least}, got "${text}"`)
}

/** Ends the command because of how it was called. */
export function end(why: string): never {
  console.error(why)
  process.exit(2)
}
