import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Where this process keeps what its tables have no memory for: a folder of its own, since several workers may be at work
 * on one data directory. Folders of processes that are gone are removed; nothing in them is worth anything.
 */
export function cacheFolder(dataDir: string): string {
  const all = join(dataDir, 'cache')
  for (const name of entries(all)) {
    const pid = Number(name)
    if (pid === process.pid || isAlive(pid)) continue
    rmSync(join(all, name), { recursive: true, force: true })
  }
  return join(all, String(process.pid))
}

function entries(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
