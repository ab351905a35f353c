export {
  type DeadLetterFilter,
  type InspectedLane,
  type InspectedSlot,
  type InspectedStore,
  type InspectedTask,
  inspect,
  type StateInspector,
} from './inspect.ts'
export { type Fate, MemoryDisk, type MemoryStoreOptions, memoryStore } from './memory.ts'
export { type SqliteStoreOptions, sqliteStore } from './sqlite.ts'
