// @ts-nocheck
// Topic manager of tm_producer for @bsv/overlay.
import { Transaction } from '@bsv/sdk'
import documentation from '../docs/tm_producer.js'
import { readDescriptor } from '../rules/descriptor.js'

const statement = ({ identityKey, subject }) => `${identityKey} ${subject}`

export default class ProducerTopicManager {
  // Every descriptor is admitted; of those that are spent, the ones stay whose owner and subject an admitted one continues.
  async identifyAdmissibleOutputs (beef, previousCoins) {
    const tx = Transaction.fromBEEF(beef)
    const admitted = new Set()
    const outputsToAdmit = []
    for (const [index, output] of tx.outputs.entries()) {
      const found = await readDescriptor(output.lockingScript)
      if (found === undefined) continue
      outputsToAdmit.push(index)
      admitted.add(statement(found))
    }
    const coinsToRetain = []
    for (const index of previousCoins) {
      const input = tx.inputs[index]
      const spent = input.sourceTransaction?.outputs[input.sourceOutputIndex]
      const found = spent === undefined ? undefined : await readDescriptor(spent.lockingScript)
      if (found !== undefined && admitted.has(statement(found))) coinsToRetain.push(index)
    }
    return { outputsToAdmit, coinsToRetain }
  }

  async getDocumentation () {
    return documentation
  }

  async getMetaData () {
    return { name: 'tm_producer', shortDescription: 'What producers say about their resources.' }
  }
}
