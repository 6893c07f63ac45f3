// The program of a `Driven` process of Node.js: node bentocache.mjs MODULES JSON. What it is told, and how it
// answers, is as in driven.py. MODULES is a folder in which bentocache and ioredis were installed by npm.
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [modules, json] = process.argv.slice(2)
const told = JSON.parse(json)
// It exports to `import` alone, which looks beside this file and not there.
const part = (name) => import(pathToFileURL(path.join(modules, 'node_modules/bentocache/build', name)).href)
const { BentoCache, bentostore } = await part('index.js')
const { memoryDriver } = await part('src/drivers/memory.js')
const { redisDriver, redisBusDriver } = await part('src/drivers/redis.js')
const { fileDriver } = await part('src/drivers/file/file.js')
createRequire(path.join(modules, 'package.json')).resolve('ioredis')

const life = (told.life ?? 3600) * 1000
const connection = { host: '127.0.0.1', port: told.port }
const memory = () => memoryDriver(told.bytes ? { maxSize: told.bytes } : {})
const store = told.port
  ? bentostore()
      .useL1Layer(memory())
      .useL2Layer(redisDriver({ connection }))
      .useBus(redisBusDriver({ connection }))
  : bentostore().useL2Layer(fileDriver({ directory: told.folder })) // disk_alone
const bento = new BentoCache({ default: 'main', ttl: life, stores: { main: store } })
bento.on('error', () => {})
process.on('uncaughtException', () => {})
process.on('unhandledRejection', () => {})

const loader = (log, value, seconds, fails) => async () => {
  fs.appendFileSync(log, 'a call\n')
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  if (fails) throw new Error('the source is away')
  return value
}
const load = (key, about, options = {}) => bento.getOrSet({ key, factory: loader(...about), ...options })

const operations = {
  ready: async () => true,
  get: (key) => bento.get({ key }),
  set: async (key, value) => void (await bento.set({ key, value })),
  delete: async (key) => void (await bento.delete({ key })),
  load: (key, ...about) => load(key, about),
  load_or_stale: (key, ...about) => load(key, about, { grace: '1h' }),
  load_or_old: (key, ...about) => load(key, about, { grace: '1h', timeout: 0 }),
  get_many: (keys) => Promise.all(keys.map((key) => bento.get({ key }))),
  mutate: async () => {
    await bento.set({ key: 'list', value: [1] })
    const found = await bento.get({ key: 'list' })
    found.push(2)
    return bento.get({ key: 'list' })
  },
  read_whole: async (rounds) => {
    let torn = 0
    for (let round = 0; round < rounds; round++) {
      try {
        const found = await bento.get({ key: 'torn' })
        torn += found !== undefined && found !== found[0]?.repeat(found.length)
      } catch {
        torn++
      }
    }
    return torn
  },
  rewrite: async (size) => {
    for (;;) {
      for (const letter of 'ab') await bento.set({ key: 'torn', value: letter.repeat(size) })
    }
  },
  close: () => bento.disconnectAll(),
  can_tag: async () => {
    await bento.set({ key: 'a', value: 1, tags: ['red'] })
    await bento.set({ key: 'b', value: 1 })
    await bento.deleteByTag({ tags: ['red'] })
    return !(await bento.get({ key: 'a' })) && (await bento.get({ key: 'b' })) === 1 ? 'yes' : 'no'
  },
  can_clear_a_namespace: async () => {
    const [one, two] = [bento.namespace('one'), bento.namespace('two')]
    await one.set({ key: 'a', value: 1 })
    await two.set({ key: 'a', value: 1 })
    await one.clear()
    return !(await one.get({ key: 'a' })) && (await two.get({ key: 'a' })) === 1 ? 'yes' : 'no'
  },
  can_bound_bytes: async (bound, values) => {
    const stores = { main: bentostore().useL1Layer(memoryDriver({ maxSize: bound })) }
    const bounded = new BentoCache({ default: 'main', ttl: life, stores })
    for (const [n, value] of values.entries()) await bounded.set({ key: `${n}`, value })
    let kept = 0
    for (const n of values.keys()) kept += (await bounded.get({ key: `${n}` }))?.length ?? 0
    return `${(kept / 1e6).toFixed(1)} MB in memory`
  },
  can_statistics: async () => {
    let misses = 0
    bento.on('cache:miss', () => misses++)
    await bento.get({ key: 'nothing' })
    return misses === 1 ? 'events, which name the layer of a hit' : 'no'
  },
}

async function work({ id, op, args }) {
  const start = performance.now()
  let answer
  try {
    const name = op === 'feature' ? `can_${args[0]}` : op
    if (!operations[name]) throw Object.assign(new Error(name), { name: 'Absent' })
    const value = await operations[name](...(op === 'feature' ? args.slice(1) : args))
    answer = value === undefined ? { miss: true } : { value }
  } catch (error) {
    answer = { error: `${error.code ?? error.name}: ${error.message}`.slice(0, 300) }
  }
  console.log(JSON.stringify({ id, seconds: (performance.now() - start) / 1000, ...answer }))
}

readline.createInterface({ input: process.stdin }).on('line', (line) => work(JSON.parse(line)))
