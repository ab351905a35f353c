export { type Email, type TestOptions, type TestPipeline, testPipeline } from './test-pipeline.ts'
