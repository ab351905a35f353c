import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SyntaxKind } from 'typescript/unstable/ast'
import { API, type Checker, type Program, type Project, type Symbol as TypeSymbol } from 'typescript/unstable/sync'

/** One option of an operator, a source or a sink, as its declaration has it. */
export interface OptionEntry {
  readonly name: string
  readonly type: string
  readonly required: boolean
  /** The text of `@default`. */
  readonly fallback: string | undefined
  readonly meaning: string
}

/** What its page says of an operator, a source or a sink. */
export interface Entry {
  readonly name: string
  readonly kind: 'operator' | 'source' | 'sink'
  /** Where it is imported from. */
  readonly from: string
  /** Its file, from the project's folder. */
  readonly file: string
  readonly signatures: readonly string[]
  readonly text: string
  readonly examples: readonly { readonly title: string; readonly code: string }[]
  readonly throws: readonly string[]
  readonly options: readonly OptionEntry[]
  /** The side streams, with what is in them. */
  readonly sides: readonly { readonly name: string; readonly type: string }[]
  readonly guarantee: string | undefined
}

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const FOLDERS = [
  { folder: 'operators', kind: 'operator', wanted: (_: string) => true },
  { folder: 'sources', kind: 'source', wanted: (name: string) => name.startsWith('from') },
  { folder: 'sinks', kind: 'sink', wanted: (_: string) => true },
] as const

/** Reads what authors can use from the declarations and doc comments of the code. */
export function readEntries(): Entry[] {
  const api = new API({ cwd: ROOT })
  try {
    const project = api.updateSnapshot({ openProject: join(ROOT, 'tsconfig.json') }).getProjects()[0]!
    return [
      ...FOLDERS.flatMap(({ folder, kind, wanted }) =>
        exportsOf(project, join(ROOT, folder, 'index.ts'))
          .filter(({ name }) => wanted(name))
          .map((symbol) => entryOf(project, symbol, kind, `millrace/${folder}`)),
      ),
      entryOf(
        project,
        exportsOf(project, join(ROOT, 'core/index.ts')).find(({ name }) => name === 'merge')!,
        'operator',
        'millrace',
      ),
    ].sort((a, b) => (a.name < b.name ? -1 : 1))
  } finally {
    api.close()
  }
}

/** The functions that a file exports, by what they really are. */
function exportsOf({ program, checker }: Project, path: string): TypeSymbol[] {
  const module = checker.getSymbolAtLocation(sourceFile(program, path))!
  return checker
    .getExportsOfModule(module)
    .map((symbol) =>
      symbol.declarations[0]!.kind === SyntaxKind.ExportSpecifier ? checker.getAliasedSymbol(symbol) : symbol,
    )
    .filter(({ declarations }) => declarations.some(({ kind }) => kind === SyntaxKind.FunctionDeclaration))
}

function sourceFile(program: Program, path: string) {
  const file = program.getSourceFile(path)
  if (!file) throw new Error(`${path} is not in the project`)
  return file
}

function entryOf(project: Project, symbol: TypeSymbol, kind: Entry['kind'], from: string): Entry {
  const { checker } = project
  const declarations = symbol.declarations.map((handle) => handle.resolve(project) as any)
  const source = declarations[0].getSourceFile()
  const overloads = declarations.filter((each) => each.body === undefined)
  const shown = overloads.length > 0 ? overloads : declarations
  const tags = symbol.getJsDocTags(checker).map(({ name, text }) => ({ name, text: textOfTag(text) }))
  const file = source.fileName.slice(ROOT.length)
  const guarantees = [...readFileSync(source.fileName, 'utf8').matchAll(/guarantee: '(\w+)'/g)].map(
    (match) => match[1]!,
  )
  return {
    name: symbol.name,
    kind,
    from,
    file,
    signatures: shown.map((each) => signatureOf(source.text, each)),
    text: symbol
      .getDocumentationComment(checker)
      .replaceAll(/\{@link (\w+)\}/g, '`$1`')
      .trim(),
    examples: tags.filter(({ name }) => name === 'example').map(({ text }) => exampleOf(text)),
    throws: tags.filter(({ name }) => name === 'throws').map(({ text }) => text),
    options: optionsOf(project, declarations.at(-1)),
    sides: sidesOf(checker, shown[0]),
    guarantee: kind === 'sink' ? guarantees[0] : undefined,
  }
}

const textOfTag = (text: unknown): string =>
  (Array.isArray(text) ? text.map((part) => part.text).join('') : String(text ?? '')).trim()

/** A declaration without its body, its doc comment and what only the compiler needs to know. */
function signatureOf(text: string, declaration: any): string {
  const start = declaration.name.pos
  const end = declaration.body?.pos ?? declaration.end
  return text
    .slice(start, end)
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/,? ([)\]>])/g, '$1')
    .replaceAll(/([([<]) /g, '$1')
    .trim()
}

function exampleOf(text: string): { title: string; code: string } {
  const [, title = '', code = ''] = /^(.*?)```ts\n([\s\S]*?)```/s.exec(text) ?? []
  return { title: title.trim(), code: code.trimEnd() }
}

/** The options of the parameter that has them, those that it inherits behind its own. */
function optionsOf(project: Project, declaration: any): OptionEntry[] {
  const { checker } = project
  const written = [...declaration.parameters]
    .flatMap(({ type }: any) => (type?.kind === SyntaxKind.IntersectionType ? [...type.types] : [type]))
    .find((type: any) => type?.kind === SyntaxKind.TypeReference && /Options$/.test(type.typeName.text ?? ''))
  if (!written) return []
  const source: string = declaration.getSourceFile().text
  /** What a type parameter that is an option's whole type must be. */
  const constraints = new Map(
    [...(declaration.typeParameters ?? [])].flatMap(({ name, constraint }: any) =>
      constraint ? [[name.text, source.slice(constraint.pos, constraint.end).trim()] as const] : [],
    ),
  )
  const options = checker.getTypeFromTypeNode(written)!
  return checker.getPropertiesOfType(options).map((property) => {
    const declared = (property.valueDeclaration ?? property.declarations[0])?.resolve(project) as any
    const tags = property.getJsDocTags(checker)
    const fallback = tags.find(({ name }) => name === 'default')
    const text: string = declared.getSourceFile().text
    const type = text.slice(declared.type.pos, declared.type.end).replaceAll(/\s+/g, ' ').trim()
    return {
      name: property.name,
      type: constraints.get(type) ?? type,
      required: declared.postfixToken === undefined && declared.questionToken === undefined,
      fallback: fallback && textOfTag(fallback.text),
      meaning: property.getDocumentationComment(checker).replaceAll(/\s+/g, ' ').trim(),
    }
  })
}

/** The third argument of `Operator<T, R, S>`, name by name. */
function sidesOf(checker: Checker, declaration: any): { name: string; type: string }[] {
  const sides = declaration.type?.typeArguments?.[2]
  if (declaration.type?.typeName?.text !== 'Operator' || !sides) return []
  const type = checker.getTypeFromTypeNode(sides)!
  return checker.getPropertiesOfType(type).map((side) => ({
    name: side.name,
    type: checker.typeToString(checker.getTypeOfSymbol(side)!),
  }))
}

/** The file name of an entry's page. */
export const pageName = ({ name }: Entry): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
