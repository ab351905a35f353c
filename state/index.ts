export {
  type DeadLetterFilter,
  type InspectedLane,
  type InspectedSlot,
  type InspectedStore,
  type InspectedTask,
  inspect,
  type RemoteInspector,
  type StateInspector,
} from './inspect.ts'
export { type Fate, MemoryDisk, type MemoryStoreOptions, memoryStore } from './memory.ts'
export { type RedisStoreOptions, redisStore } from './redis.ts'
export { type InspectRedisOptions, inspectRedis } from './redis-inspect.ts'
export { type SqliteStoreOptions, sqliteStore } from './sqlite.ts'
