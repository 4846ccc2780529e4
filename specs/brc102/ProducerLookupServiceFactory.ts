// @ts-nocheck
// Lookup service ls_producer for @bsv/overlay, on an SQL database by way of Knex.
import documentation from '../docs/tm_producer.js'
import { readDescriptor } from '../rules/descriptor.js'

const TOPIC = 'tm_producer'
const TABLE = 'producer_descriptors'
const SHAPES = {
  identityKey: /^0[23][0-9a-f]{64}$/,
  subject: /^[A-Z][A-Za-z0-9]{0,62}\/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
  kind: /^[A-Z][A-Za-z0-9]{0,62}$/,
  digest: /^[0-9a-f]{64}$/,
  outpoint: /^[0-9a-f]{64}\.(?:0|[1-9][0-9]{0,9})$/
}

const migrations = [{
  up: async (knex) => {
    await knex.schema.createTable(TABLE, (table) => {
      table.increments('id')
      table.string('txid', 64).notNullable()
      table.integer('outputIndex').notNullable()
      table.string('identityKey', 66).notNullable().index()
      table.string('subject', 128).notNullable()
      table.string('kind', 63).notNullable()
      table.string('digest', 64).notNullable().index()
      table.unique(['txid', 'outputIndex'])
    })
  },
  down: async (knex) => { await knex.schema.dropTable(TABLE) }
}]

function asked (query) {
  if (query === null || typeof query !== 'object' || Array.isArray(query)) throw new Error('query must be an object')
  const { limit = 100, skip = 0, sortOrder = 'desc', ...conditions } = query
  for (const [name, value] of Object.entries(conditions)) {
    if (SHAPES[name] === undefined) throw new Error(`query.${name} is not a condition of this service`)
    if (typeof value !== 'string' || !SHAPES[name].test(value)) throw new Error(`query.${name} has a wrong form`)
  }
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > 1000) throw new Error('query.limit must be a number from 1 to 1000')
  if (!Number.isSafeInteger(skip) || skip < 0) throw new Error('query.skip must be a number from 0')
  if (sortOrder !== 'asc' && sortOrder !== 'desc') throw new Error('query.sortOrder must be asc or desc')
  return { limit, skip, sortOrder, conditions }
}

class ProducerLookupService {
  admissionMode = 'locking-script'
  spendNotificationMode = 'none'

  constructor (knex) {
    this.knex = knex
  }

  async outputAdmittedByTopic ({ topic, txid, outputIndex, lockingScript }) {
    if (topic !== TOPIC) return
    const found = await readDescriptor(lockingScript)
    if (found === undefined) return
    const { identityKey, subject, kind, digest } = found
    await this.knex(TABLE).insert({ txid, outputIndex, identityKey, subject, kind, digest }).onConflict(['txid', 'outputIndex']).ignore()
  }

  async outputSpent ({ topic, txid, outputIndex }) {
    if (topic === TOPIC) await this.outputEvicted(txid, outputIndex)
  }

  async outputEvicted (txid, outputIndex) {
    await this.knex(TABLE).where({ txid, outputIndex }).del()
  }

  async lookup ({ query }) {
    const { limit, skip, sortOrder, conditions: { outpoint, ...same } } = asked(query)
    const rows = this.knex(TABLE).select('txid', 'outputIndex').where(same)
    if (outpoint !== undefined) {
      const [txid, outputIndex] = outpoint.split('.')
      rows.where({ txid, outputIndex: Number(outputIndex) })
    }
    return await rows.orderBy('id', sortOrder).limit(limit).offset(skip)
  }

  async getDocumentation () {
    return documentation
  }

  async getMetaData () {
    return { name: 'ls_producer', shortDescription: 'Descriptors by owner, subject, kind or digest.' }
  }
}

export default (knex) => ({ service: new ProducerLookupService(knex), migrations })
