// @ts-nocheck
// The rules of tm_producer: what a descriptor is, and whether its owner made it. They are written down in ../docs/tm_producer.ts.
import { ProtoWallet, PublicKey, Utils } from '@bsv/sdk'

const SUBJECT = /^[A-Z][A-Za-z0-9]{0,62}\/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const VERSION = /^[1-9][0-9]{0,15}$/
// A scheme, a host, perhaps a port, and what follows; neither credentials nor a fragment.
const URL_TEXT = /^(?:https?|uhrp):\/\/(?:\[[^\]]+\]|[^:[\]/?#@]+)(?::([0-9]{0,5}))?(?:[/?][^#]*)?$/
// Printable ASCII, without what no URL holds unescaped.
const SPELLED = /^[!#-;=?-[\]_a-z~]+$/
const CHECKSIG = 0xac
const DROP = 0x75
const DROP2 = 0x6d

const anyone = new ProtoWallet('anyone')

function push (data) {
  if (data.length < 0x4c) return [data.length, ...data]
  if (data.length <= 0xff) return [0x4c, data.length, ...data]
  return [0x4d, data.length & 0xff, data.length >> 8, ...data]
}

// The seven pushed items and the key, or undefined unless the script is exactly the token that they make.
function opened (script) {
  const bytes = script.toBinary()
  if (bytes.length > 4096) return undefined
  const items = script.chunks.map((chunk) => chunk.data)
  const [key, , ...rest] = items
  const fields = rest.slice(0, 7)
  if (key === undefined || key.length !== 33 || fields.length !== 7) return undefined
  if (fields.some((field) => field === undefined || field.length < 2 && field[0] <= 16)) return undefined
  const wanted = [...push(key), CHECKSIG, ...fields.flatMap(push), DROP2, DROP2, DROP2, DROP]
  if (wanted.length !== bytes.length || wanted.some((byte, i) => byte !== bytes[i])) return undefined
  return { key: Utils.toHex(key), fields }
}

function text (bytes) {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes))
}

function wellFormed (address) {
  const parts = URL_TEXT.exec(address)
  return address.length <= 2048 && SPELLED.test(address) && parts !== null && Number(parts[1] ?? 0) <= 65535
}

// What an output says, or undefined unless the topic admits it.
export async function readDescriptor (script) {
  try {
    const token = opened(script)
    if (token === undefined) return undefined
    const [tag, identity, subject, digest, url, version, signature] = token.fields
    const found = { identityKey: Utils.toHex(identity), subject: text(subject), digest: Utils.toHex(digest), version: Number(text(version)) }
    if (text(tag) !== 'DESCRIPTOR' || identity.length !== 33 || digest.length !== 32) return undefined
    if (!SUBJECT.test(found.subject) || !VERSION.test(text(version)) || found.version > Number.MAX_SAFE_INTEGER) return undefined
    if (!wellFormed(text(url))) return undefined
    PublicKey.fromString(found.identityKey)
    const made = { protocolID: [2, 'producer descriptor'], keyID: found.subject, counterparty: found.identityKey }
    const { publicKey } = await anyone.getPublicKey(made)
    if (publicKey !== token.key) return undefined
    const data = token.fields.slice(0, 6).flat()
    const { valid } = await anyone.verifySignature({ ...made, data, signature })
    return valid ? { ...found, kind: found.subject.split('/')[0] } : undefined
  } catch {
    return undefined
  }
}
