# pragma version ^0.4.0
"""
@title A dollar that moves by signature
@notice As much of USDC as a gateway uses (EIP-3009), for tests on a chain of their own: anybody may mint.
        Its signing domain is that of USDC on Base, at whatever address this code is.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
TRANSFER: constant(bytes32) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CHAIN: constant(uint256) = 8453
# Half of the curve's order: of two equivalent signatures, only the one with the lower s is accepted.
LOW: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

balanceOf: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])


@external
def mint(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, amount=amount)


@external
def transferWithAuthorization(
    payer: address,
    payee: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    assert block.timestamp > valid_after, "authorization is not yet valid"
    assert block.timestamp < valid_before, "authorization is expired"
    assert not self.authorizationState[payer][nonce], "authorization is used"
    assert convert(s, uint256) <= LOW, "signature is not canonical"
    domain: bytes32 = keccak256(abi_encode(DOMAIN, keccak256("USD Coin"), keccak256("2"), CHAIN, self))
    message: bytes32 = keccak256(abi_encode(TRANSFER, payer, payee, amount, valid_after, valid_before, nonce))
    signer: address = ecrecover(keccak256(concat(b"\x19\x01", domain, message)), v, r, s)
    assert signer != empty(address) and signer == payer, "invalid signature"
    self.authorizationState[payer][nonce] = True
    log AuthorizationUsed(authorizer=payer, nonce=nonce)
    self.balanceOf[payer] -= amount
    self.balanceOf[payee] += amount
    log Transfer(sender=payer, receiver=payee, amount=amount)
