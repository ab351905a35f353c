export { type FileOptions, type FileSourceOptions, fileSource, fromFile } from './file.ts'
export {
  fromKafka,
  type KafkaConnection,
  type KafkaFrom,
  type KafkaOptions,
  type KafkaSasl,
  type KafkaSourceOptions,
  kafkaSource,
  type SchemaRegistry,
} from './kafka.ts'
export { fromLog, type LogOptions, type LogSourceOptions, logSource, type StartFrom } from './log.ts'
export { fromShop, type ShopSourceOptions, type ShopStreamOptions, shopSource } from './shop.ts'
